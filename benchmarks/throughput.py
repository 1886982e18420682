"""Speed of this runtime, PyTorch and other runtimes on the same model and the same inputs, in interleaved runs.

    python -m benchmarks.throughput                                # the demo's sizes, some contenders, three minutes
    python -m benchmarks.throughput --full-size --folder FOLDER    # Stable Diffusion 1.5, random weights, 20 GB of disk

Every contender runs in a process of its own. Its runs alternate with those of the baseline, diffusers in eager
PyTorch, and its speed is the median of the ratios of neighbouring runs. A contender that is not installed, or cannot
run on this machine, is named with the reason and left out.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from anon_export.extras import installed_versions
from anon_runtime.backends.processor import processor_name

from . import latency
from .command_line import one_line_errors
from .contenders import (
    BASELINE,
    CONTENDERS,
    NNCF,
    ON_OPENVINO,
    PARTS,
    PLAIN,
    QUICK,
    SLOW,
    UNET_ONLY,
    Contender,
    Part,
    Sizes,
    UnavailableError,
    torch_eager,
)
from .throughput_report import Batch, Comparison, Report, table

# Numbers of images that are generated at once, for the demo's sizes and, with True, at full size.
BATCHES: dict[bool, tuple[int, ...]] = {False: (1, 4), True: (1, 2, 4)}
MEASURED = (*PARTS, "images", "batches")
QUICKLY_MEASURED = ("unet", "images", "batches")  # by the quick form
PACKAGES = (
    "anon-engines",
    "numpy",
    "torch",
    "diffusers",
    "onnxruntime",
    "openvino",
    "nncf",
    "optimum-onnx",
    "stable-diffusion-cpp-python",
)


if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode

Shape = tuple[int, ...]


def compare(
    baseline: Contender, name: str, part: Part, folder: Path, sizes: Sizes, repeats: int, threads: int
) -> Comparison:
    """Run a contender and the baseline alternately, after one run of each that is not counted."""
    inputs = sizes.inputs(part)
    with Contender(name, folder, part, threads) as contender:
        expected, result = baseline.run(inputs).result, contender.run(inputs).result
        runs = [(contender.run(inputs), baseline.run(inputs)) for _ in range(repeats)]
    assert expected is not None
    error = None if result is None else float(np.abs(result - expected).max() / np.abs(expected).max())
    return Comparison(
        name,
        part,
        [own.seconds for own, _ in runs],
        [other.seconds for _, other in runs],
        error,
        max(own.peak for own, _ in runs),
    )


def sgemm_rate(repeats: int = 5) -> float:
    """The machine's rate of fp32 matrix multiplication in FLOP/s: the best of three libraries and several sizes."""
    import onnx
    import onnxruntime
    import torch

    rates = []
    for side in (1024, 2048, 3072):
        a = np.random.default_rng(0).standard_normal((side, side)).astype(np.float32)
        value = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("MatMul", ["a", "a"], ["b"])],
            "sgemm",
            [value("a", onnx.TensorProto.FLOAT, [side, side])],
            [value("b", onnx.TensorProto.FLOAT, [side, side])],
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        multiply = (partial(np.matmul, a, a), partial(torch.matmul, *2 * [torch.from_numpy(a)]))
        for call in (*multiply, partial(session.run, None, {"a": a})):
            rates += [2 * side**3 / seconds for seconds in time_calls(call, repeats)]
    return max(rates)


def time_calls(call: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each call, after one that is not counted."""
    call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def count_flops(folder: Path, part: Part, sizes: Sizes) -> float:
    """Multiplications and additions of convolutions, matrix products and attention, as PyTorch counts them."""
    call, inputs = torch_eager(folder, part), sizes.inputs(part)
    with count_operations() as counter:
        call(inputs)
    return float(counter.get_total_flops())


def count_operations() -> "FlopCounterMode":
    """PyTorch's counter, which lacks the operator of attention on a CPU: its formula for GPUs is given to it."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    def attention(query: Shape, key: Shape, value: Shape, *_: object, **__: object) -> int:
        return int(sdpa_flop_count(query, key, value))

    operator = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001 - the operator's name
    return FlopCounterMode(display=False, custom_mapping={operator: attention})


def measure_batches(folder: Path, counts: Sequence[int], repeats: int) -> list[Batch]:
    """Seconds and images per second, by the number of images that are generated at once."""
    from anon_runtime import Anonymizer, Request, Settings

    anonymizer = Anonymizer.load(folder / "engines" / "ours", Settings(steps=2), checksum=False)
    found: list[Batch] = []
    for count in tqdm(counts, desc="batches"):
        requests = [Request("portrait of a woman, Smiling ", " Bald ", seed) for seed in range(count)]
        median = statistics.median(time_calls(partial(anonymizer.generate, requests), repeats))
        found.append({"images": count, "seconds": median, "images_per_second": count / median})
    return found


def machine(threads: int) -> dict[str, str | int]:
    """Processor, threads and versions, on which the figures depend."""
    facts: dict[str, str | int] = {"cpu": processor_name(), "threads": threads, "python": platform.python_version()}
    return facts | installed_versions(PACKAGES)


def run(
    folder: Path, *, full_size: bool, repeats: int, only: Sequence[str], measured: Sequence[str] = MEASURED
) -> Report:
    """Measure everything.

    Args:
        folder: for the model and the engines, which are kept.
        full_size: use a model of Stable Diffusion 1.5's sizes in place of the demo's.
        repeats: runs of each contender.
        only: names of the contenders that run.
        measured: what is measured: networks by part, ``images`` by stage, ``batches`` of images.
    """
    from .preparation import prepare, prepare_nncf, prepare_openvino, prepare_plain  # torch is not for contenders

    threads = len(os.sched_getaffinity(0))
    sizes = prepare(folder, full_size=full_size)
    if set(only) & set(PLAIN):
        prepare_plain(folder, sizes)
    if set(only) & set(NNCF):
        prepare_nncf(folder, sizes)
    if set(only) & set(ON_OPENVINO):
        prepare_openvino(folder)
    comparisons: list[Comparison] = []
    unavailable: dict[str, str] = {}
    names = [name for name in CONTENDERS if name in only and name != BASELINE]
    by_part = {
        part: [name for name in names if part == "unet" or name not in UNET_ONLY] for part in PARTS if part in measured
    }
    with tqdm(total=sum(map(len, by_part.values())), desc="contenders") as bar:
        for part in by_part:
            with Contender(BASELINE, folder, part, threads) as baseline:
                for name in by_part[part]:
                    try:
                        runs = min(repeats, 2) if name in SLOW else repeats
                        comparisons.append(compare(baseline, name, part, folder, sizes, runs, threads))
                    except UnavailableError as error:
                        unavailable[f"{name}, {part}"] = str(error)
                    bar.update()
    counts = BATCHES[full_size] if "batches" in measured else ()
    return {
        "machine": machine(threads),
        "full_size": full_size,
        "flops": {part: count_flops(folder, part, sizes) for part in PARTS},
        "sgemm": sgemm_rate(),
        "comparisons": [asdict(comparison) for comparison in comparisons],
        "unavailable": unavailable,
        "images": latency.measure(folder, 15) if "images" in measured else {},
        "batches": measure_batches(folder, counts, 1 if full_size else 3),
    }


def main() -> None:
    """Measure, print the tables, write JSON and plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full-size", action="store_true", help="use a model of Stable Diffusion 1.5's sizes")
    parser.add_argument("--folder", type=Path, help="folder for models and engines, which are kept for the next run")
    parser.add_argument("--repeats", type=int, default=5, help="number of runs of each contender")
    names = "; ".join(CONTENDERS)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=CONTENDERS,
        metavar="NAME",
        help=f"contenders to run; default: all at full size, otherwise some of {names}",
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=MEASURED,
        help="what is measured; default: all at full size, otherwise all but the VAE's decoder",
    )
    parser.add_argument("--out", type=Path, help="also write table, figures and plots into this folder")
    options = parser.parse_args()
    if options.out:
        from .plots import draw
    only = options.only or (CONTENDERS if options.full_size else QUICK)
    measured = options.parts or (MEASURED if options.full_size else QUICKLY_MEASURED)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        report = run(folder, full_size=options.full_size, repeats=options.repeats, only=list(only), measured=measured)
    lines = "\n".join(table(report))
    print(lines)
    if options.out:
        draw(report, options.out)
        (options.out / "table.md").write_text(lines + "\n", encoding="utf-8")
        (options.out / "figures.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
        print(f"\n{options.out}: {', '.join(sorted(path.name for path in options.out.iterdir() if path.is_file()))}")


if __name__ == "__main__":
    with one_line_errors(__name__, extras="export,bench"):
        main()
