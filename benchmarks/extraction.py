"""Time from photo to attributes: this runtime's face engines, and facer with DeepFace, on the same photos.

    python -m benchmarks.extraction [--repeats 5] [--json FILE]        # in .venv-facer, of `make test-packages`

The networks have their full size and random weights (see `random_face_weights`). Each contender runs in a process of
its own, in interleaved runs. The face is given, and not the one that a detector finds, so that both read the same crop.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Literal, TypedDict, get_args

import numpy as np

from anon_runtime.types import Pixels

from .command_line import one_line_errors
from .contenders import peak_memory

BOX, POINTS = (180.0, 58.0, 91.0, 118.0), [[203, 98], [245, 100], [222, 122], [205, 140], [240, 142]]
ContenderName = Literal["anon-engines", "facer + DeepFace"]
NAMES: tuple[ContenderName, ...] = get_args(ContenderName)
Extract = Callable[[Sequence[Pixels]], None]


class Times(TypedDict):
    """Medians of one contender.

    Attributes:
        one_s: seconds for one photo.
        eight_s: seconds for a batch of eight photos.
        memory_mb: most resident memory in megabytes.
    """

    one_s: float
    eight_s: float
    memory_mb: float


def photos(count: int) -> list[Pixels]:
    """The astronaut, shifted a little for each photo of a batch."""
    from anon_runtime.faces.decoding import read_photo

    photo = read_photo(Path(str(files("skimage"))) / "data" / "astronaut.png")
    return [np.ascontiguousarray(np.roll(photo, k, axis=1)) for k in range(count)]


def load_runtime(folder: Path) -> Extract:
    """The face engines in a folder, as a function of photos."""
    from anon_runtime.backends.base import load_engine
    from anon_runtime.faces.attributes import read_attributes
    from anon_runtime.faces.detection import DETECTORS, Face, detect

    roles = json.loads((folder / "roles.json").read_text())
    paths = {role: folder / name / "model.onnx" for role, name in roles.items()}
    loaded = {path: load_engine("onnxruntime", path) for path in set(paths.values())}
    engines = {role: loaded[path] for role, path in paths.items()}
    face = Face(BOX, 1.0, np.array(POINTS, np.float32))

    def extract(batch: Sequence[Pixels]) -> None:
        detect(engines["face_detector"], DETECTORS["retinaface"], batch, DETECTORS["retinaface"].threshold)
        read_attributes(engines, batch, [face] * len(batch))

    return extract


def load_packages(_folder: Path) -> Extract:
    """facer and DeepFace, as a function of photos."""
    import facer
    import torch
    from deepface import DeepFace

    from anon_export import faces

    found = {role: str(faces.WEIGHTS[role].find()) for role in ("detector", "attributes")}
    with faces.cpu_only():
        detector = facer.face_detector("retinaface/mobilenet", "cpu", model_path=found["detector"])
        attributes = facer.face_attr("farl/celeba/224", "cpu", model_path=found["attributes"])
    x, y, w, h = map(int, BOX)

    def extract(batch: Sequence[Pixels]) -> None:
        images = torch.from_numpy(np.stack(batch).transpose(0, 3, 1, 2).copy())
        points = torch.tensor(POINTS, dtype=torch.float32).expand(len(batch), 5, 2)
        with torch.inference_mode():
            detector(images)
            attributes(images, {"points": points, "image_ids": torch.arange(len(batch))})
        for photo in batch:
            crop = np.ascontiguousarray(photo[y : y + h, x : x + w, ::-1])
            DeepFace.analyze(crop, actions=("age", "race"), detector_backend="skip", silent=True)

    return extract


LOADERS: dict[ContenderName, Callable[[Path], Extract]] = {
    "anon-engines": load_runtime,
    "facer + DeepFace": load_packages,
}


def serve(name: ContenderName, folder: Path) -> None:
    """The process of a contender: for each batch size on stdin, it prints seconds and its peak memory in bytes."""
    extract = LOADERS[name](folder)
    extract(photos(1))
    for line in sys.stdin:
        batch = photos(int(line))
        start = time.perf_counter()
        extract(batch)
        seconds = time.perf_counter() - start
        print(f"answer {seconds} {peak_memory()}", flush=True)


def ask(process: subprocess.Popen[str], size: int) -> tuple[float, float]:
    """Seconds and peak megabytes of one batch."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{size}\n")
    process.stdin.flush()
    line = next(line for line in process.stdout if line.startswith("answer"))
    return float(line.split()[1]), int(line.split()[2]) / 1e6


def measure(folder: Path, repeats: int) -> dict[ContenderName, Times]:
    """Medians of both contenders in interleaved runs."""
    command = [sys.executable, "-m", "benchmarks.extraction", "--folder", str(folder), "--serve"]
    pipe = subprocess.PIPE
    processes = {name: subprocess.Popen([*command, name], stdin=pipe, stdout=pipe, text=True) for name in NAMES}
    runs: dict[ContenderName, dict[int, list[tuple[float, float]]]] = {name: {1: [], 8: []} for name in NAMES}
    for _ in range(repeats):
        for size in (1, 8):
            for name, process in processes.items():
                runs[name][size].append(ask(process, size))
    for process in processes.values():
        process.communicate()
    return {
        name: {
            "one_s": statistics.median(seconds for seconds, _ in own[1]),
            "eight_s": statistics.median(seconds for seconds, _ in own[8]),
            "memory_mb": max(memory for _, memory in own[8]),
        }
        for name, own in runs.items()
    }


def unet_seconds() -> float:
    """Seconds of the full-size UNet (random weights, 512 x 512) in PyTorch for one evaluation with guidance."""
    import torch
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8).eval()
    inputs = torch.randn(2, 4, 64, 64), torch.tensor(500.0), torch.randn(2, 77, 768)
    with torch.inference_mode():
        unet(*inputs)
        start = time.perf_counter()
        unet(*inputs)
    return time.perf_counter() - start


def table(times: dict[ContenderName, Times], unet: float) -> list[str]:
    """The lines of the table in Markdown, and the share of a whole image's time."""
    lines = ["| | one photo | a photo of eight | peak memory |", "|---|---|---|---|"]
    for name, own in times.items():
        one, eight = own["one_s"] * 1e3, own["eight_s"] / 8 * 1e3
        lines.append(f"| {name} | {one:.0f} ms | {eight:.0f} ms | {own['memory_mb']:.0f} MB |")
    ours, theirs = (times[name] for name in NAMES)
    ratios = (
        theirs["one_s"] / ours["one_s"],
        theirs["eight_s"] / ours["eight_s"],
        theirs["memory_mb"] / ours["memory_mb"],
    )
    lines.append("| ratio | " + " | ".join(f"{ratio:.1f} x" for ratio in ratios) + " |")
    share = ours["one_s"] / (29 * unet)
    return [*lines, f"share of the time of a full-size image (29 x {unet:.1f} s, UNet in PyTorch): {share:.2%}"]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="number of runs of each contender; default: %(default)s")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--serve", choices=NAMES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.folder)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"TORCH_HOME": str(folder), "DEEPFACE_HOME": name, "DEEPFACE_BACKEND_ENGINE": "pytorch"}
        from anon_export.faces import face_components

        from .random_face_weights import write_random_face_weights

        write_random_face_weights()
        specs = [component.export(folder / component.name) for component in face_components()]
        roles = {role: Path(spec.path).parent.name for made in specs for role, spec in made.items()}
        (folder / "faces" / "roles.json").write_text(json.dumps(roles))
        times = measure(folder / "faces", options.repeats)
    unet = unet_seconds()
    print("\n".join(table(times, unet)))
    if options.json:
        options.json.write_text(json.dumps({**times, "unet_s": unet}, indent=2))


if __name__ == "__main__":
    with one_line_errors(__name__, extras="cpu,export,facer,deepface,test"):
        main()
