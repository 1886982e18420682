"""These engines and PyTorch on one NVIDIA GPU, in stages that each leave their result if time runs out.

    python -m benchmarks.gpu --out OUT               # Stable Diffusion 1.5's sizes, random weights, some minutes
    python -m benchmarks.gpu --out OUT --dry-run     # the demo's sizes on the processor, to try the stages

No network is needed. A package that is missing, or a stage that fails, is named with its reason, and the next stage
runs. OUT gets `gpu.json` and `gpu.md` after each stage, and `gpu.png` at the end where matplotlib is installed.
"""

import argparse
import json
import platform
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np
from tqdm import tqdm

from anon_runtime import Anonymizer, Request, Settings
from anon_runtime.backends.buffers import allocate_outputs
from anon_runtime.backends.onnxruntime import import_onnxruntime
from anon_runtime.backends.processor import processor_name
from anon_runtime.diffusion.acceleration import FAST_LEVELS
from anon_runtime.types import Arrays

from .command_line import one_line_errors
from .contenders import NEGATIVE, PROMPT
from .gpu_report import Result, table
from .throughput import time_calls

with one_line_errors(__name__, extras="export"):
    import torch

    from anon_export.build.builder import build
    from anon_export.build.options import BuildOptions
    from anon_export.build.verify import REFERENCE_IMAGE, REQUEST, SETTINGS
    from anon_export.comparison import psnr, relative_rms
    from anon_export.demo.weights import write_demo
    from anon_export.extras import installed_versions
    from anon_export.graphs.reference_outputs import REFERENCE_OUTPUTS, read_reference_outputs

    from .full_size import write_model
    from .gpu_place import Place, SkippedError

Call = Callable[[], object]
BATCHES = (1, 2, 4, 8, 16)
PACKAGES = ("anon-engines", "diffusers", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "torch", "transformers")
COMPILED = {
    "diffusers, torch.compile max-autotune": "max-autotune",
    "diffusers, torch.compile max-autotune, no CUDA graphs": "max-autotune-no-cudagraphs",
}


def describe(place: Place) -> Result:
    """The machine, and the versions of what runs."""
    result: Result = {"processor": processor_name(), "python": platform.python_version()}
    result |= {"packages": installed_versions(PACKAGES), "providers": import_onnxruntime().get_available_providers()}
    if not place.dry:
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm", "--format=csv,noheader"]
        result["gpu"] = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
        result["cuda"], result["cudnn"] = torch.version.cuda, torch.backends.cudnn.version()
    return result


def prepare(place: Place) -> Result:
    """Write the model and build the bundle, unless they are there already."""
    model = place.folder / "model"
    if not (model / "model_index.json").exists():
        (write_demo if place.dry else write_model)(model)
    start = time.perf_counter()
    options = BuildOptions(str(model), "cuda", place.folder / "engines", "none", "cuda", "fp16", deepcache=True)
    bundle = build(options)
    size = sum(record.size for record in bundle.manifest.files.values())
    return {"seconds": time.perf_counter() - start, "bytes": size}


def compare(place: Place) -> Result:
    """Each engine against PyTorch's outputs in fp32, and an image against diffusers'."""
    from PIL import Image

    result: Result = {}
    for role in place.bundle.manifest.engines:
        inputs, expected = read_reference_outputs(place.bundle.engine_path(role).with_name(REFERENCE_OUTPUTS))
        outputs = place.engine(role)(inputs)
        result[role] = {name: relative_rms(np.asarray(outputs[name]), array) for name, array in expected.items()}
    with place.engines() as engines:
        generator = Anonymizer.of(engines, replace(SETTINGS, guard="off")).generator
        images = [np.asarray(generator.generate([REQUEST])[0].image) for _ in range(2)]
    with Image.open(place.bundle.path / REFERENCE_IMAGE) as image:
        result["image, dB"] = min(psnr(images[0], np.asarray(image.convert("RGB"))), 999.0)
    result["two runs are equal"] = bool((images[0] == images[1]).all())
    return result


def torch_call(place: Place, inputs: Arrays, *, channels_last: bool = False, mode: str | None = None) -> Call:
    """A call of diffusers' UNet with inputs that are on the device."""
    net = place.network()
    if channels_last:
        net.to(memory_format=torch.channels_last)
    forward = torch.compile(net.forward, mode=mode) if mode else net.forward
    tensors = [torch.from_numpy(array).to(place.device) for array in inputs.values()]
    tensors = [tensor.to(net.dtype) if tensor.ndim else tensor for tensor in tensors]

    def call() -> None:
        with torch.no_grad():
            forward(*tensors, return_dict=False)
        place.wait()

    return call


def bound_call(place: Place, role: str, inputs: Arrays, *, target: str = "onnxruntime") -> Call:
    """A call of an engine whose inputs and outputs stay on the device, as in the runtime's own loop.

    Args:
        place: where it runs.
        role: of the engine.
        inputs: of every call; the outputs have as many rows as ``sample``.
        target: the library that runs it; ``cuda`` is onnxruntime with CUDA graphs.
    """
    engine = place.engine(role, target)
    buffers = {name: engine.memory.empty(array.shape, array.dtype) for name, array in inputs.items()}
    for name, array in inputs.items():
        engine.memory.write(buffers[name], array)
    return engine.bind(buffers, allocate_outputs(engine, len(inputs["sample"])))


def contenders(place: Place, inputs: Arrays) -> dict[str, Callable[[], Call]]:
    """The ways to evaluate the UNet, the baseline first; each makes a call."""
    return {
        "diffusers, eager": partial(torch_call, place, inputs),
        "diffusers, channels_last": partial(torch_call, place, inputs, channels_last=True),
        **{name: partial(torch_call, place, inputs, channels_last=True, mode=mode) for name, mode in COMPILED.items()},
        "anon-engines, copied": lambda: partial(place.engine("unet"), inputs),
        "anon-engines, bound": partial(bound_call, place, "unet", inputs),
        "anon-engines, CUDA graph": partial(bound_call, place, "unet", inputs, target="cuda"),
        "anon-engines, TensorRT": partial(bound_call, place, "unet", inputs, target="tensorrt"),
    }


def time_unet(place: Place) -> Result:
    """Seconds of one guidance batch, by contender, in turns with the baseline."""
    inputs, result = place.sizes.inputs("unet"), Result()
    baseline: Call | None = None
    for name, make in tqdm(contenders(place, inputs).items(), desc="UNet", leave=False):
        if place.dry and name in COMPILED:
            result[name] = {"skipped": "a dry run does not compile"}
            continue
        try:
            before, call = place.used_memory(), make()
            baseline = baseline or call
            for warm in (baseline, call, call):
                warm()
            pairs = [(_seconds(baseline), _seconds(call)) for _ in range(place.repeats)]
        except Exception as error:  # noqa: BLE001 - one contender must not end the others
            result[name] = _reason(error)
            continue
        after = place.used_memory()
        result[name] = {
            "seconds": [own for _, own in pairs],
            "speed": median(theirs / own for theirs, own in pairs),
            "memory": None if before is None or after is None else after - before,
        }
    return result


def time_batches(place: Place) -> Result:
    """Seconds of the UNet for an image, by the number of images at once."""
    result: Result = {}
    for images in BATCHES[: 2 if place.dry else None]:
        call = bound_call(place, "unet", place.sizes.inputs("unet", images), target=place.with_graphs)
        result[str(images)] = median(time_calls(call, place.repeats)) / images
    return result


def time_images(place: Place) -> Result:
    """Seconds of an image of 15 steps and of its stages, by level of ``--fast``, after one that does not count."""
    result: Result = {}
    with place.engines() as engines:
        for level, acceleration in enumerate(FAST_LEVELS):
            settings = Settings(guard="off", acceleration=acceleration)
            generator = Anonymizer.of(engines, settings).generator
            request = Request(PROMPT, NEGATIVE, 7)
            generator.generate([request])
            start = time.perf_counter()
            portrait = generator.generate([request])[0]
            took = time.perf_counter() - start
            rest = took - sum(portrait.seconds.get(stage, 0.0) for stage in ("text", "unet", "vae"))
            result[f"--fast {level}"] = {"seconds": took, "no engine": rest} | portrait.seconds
    return result


def profile(place: Place) -> Result:
    """The share of each operator in the UNet's time, from onnxruntime's profiler."""
    ort = import_onnxruntime()
    settings = ort.SessionOptions()
    settings.enable_profiling = True
    providers = ["CPUExecutionProvider"] if place.dry else ["CUDAExecutionProvider", "CPUExecutionProvider"]
    with tempfile.TemporaryDirectory() as scratch:
        settings.profile_file_prefix = str(Path(scratch) / "profile")
        session = ort.InferenceSession(place.graph("unet"), settings, providers=providers)
        for _ in range(3):
            session.run(None, place.sizes.inputs("unet"))
        events = json.loads(Path(session.end_profiling()).read_text())
    times: dict[str, float] = defaultdict(float)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[f"{event['args']['op_name']} ({event['args'].get('provider', '')[:4]})"] += event["dur"]
    total = sum(times.values())
    return {name: own / total for name, own in sorted(times.items(), key=lambda item: -item[1])}


# In the order of what matters most, since time may run out.
STAGES: dict[str, Callable[[Place], Result]] = {
    "machine": describe,
    "build": prepare,
    "correctness": compare,
    "UNet": time_unet,
    "images": time_images,
    "batches": time_batches,
    "operators": profile,
}


def run(place: Place, out: Path, minutes: float, stages: Mapping[str, Callable[[Place], Result]] = STAGES) -> Result:
    """Run the stages, and write what is known after each of them.

    Args:
        place: where they run.
        out: the folder for ``gpu.json`` and ``gpu.md``.
        minutes: after which no further stage begins.
        stages: by name.
    """
    out.mkdir(parents=True, exist_ok=True)
    start, results = time.monotonic(), Result()
    for name, stage in tqdm(stages.items(), desc="stages"):
        if time.monotonic() - start > 60 * minutes:
            results[name] = {"skipped": "no time was left"}
        else:
            began = time.monotonic()
            try:
                results[name] = stage(place)
            except Exception as error:  # noqa: BLE001 - one stage must not end the others
                results[name] = _reason(error)
            results[name]["stage took"] = round(time.monotonic() - began, 1)
        (out / "gpu.json").write_text(json.dumps(results, indent=2), encoding="utf-8")
        (out / "gpu.md").write_text("\n".join(table(results)) + "\n", encoding="utf-8")
    return results


def draw_where_possible(results: Result, path: Path) -> None:
    """Draw the results, or say that there is no plot because matplotlib is missing, which GPU machines may lack."""
    if find_spec("matplotlib") is None:
        print(f"{path.name} is not drawn: matplotlib is not installed")
        return
    from .gpu_plot import draw

    draw(results, path)
    print(f"written: {path}")


def _seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _reason(error: Exception) -> Result:
    text = f"{error}".splitlines()[0] if f"{error}" else ""
    if isinstance(error, SkippedError):
        return {"skipped": text}
    return {"failed": f"{type(error).__name__}: {text}"[:300]}


def main() -> None:
    """Run the stages and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--folder", type=Path, help="folder for model and bundle, which are kept; default: OUT/work")
    parser.add_argument("--minutes", type=float, default=8, help="no stage begins after this time; default: 8")
    parser.add_argument("--repeats", type=int, default=20, help="calls that are measured; default: 20")
    parser.add_argument("--dry-run", action="store_true", help="the demo's sizes on the processor")
    options = parser.parse_args()
    place = Place(options.folder or options.out / "work", "cpu" if options.dry_run else "cuda", options.repeats)
    results = run(place, options.out, options.minutes)
    print("\n".join(table(results)))
    draw_where_possible(results, options.out / "gpu.png")


if __name__ == "__main__":
    with one_line_errors(__name__, extras="export"):
        main()
