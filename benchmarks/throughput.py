"""Speed of the engines beside PyTorch and other runtimes: the same model, the same inputs, taking turns in one run.

    python -m benchmarks.throughput                                # the demo's sizes, two or three minutes
    python -m benchmarks.throughput --full-size --folder FOLDER    # Stable Diffusion 1.5, random weights, 20 GB of disk

Every contender runs in a process of its own, beside one with diffusers' eager PyTorch; the two take turns, and each
ratio is the median of the turns' ratios. What is not installed, or does not compile here, is named and left out.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from . import latency
from .contenders import (
    BASELINE,
    CONTENDERS,
    PLAIN,
    SLOW,
    AbsentError,
    Rival,
    Sizes,
    prepare,
    prepare_plain,
    torch_eager,
)

PARTS = ("unet", "vae_decoder")
BATCHES = {False: (1, 2, 4, 8, 16, 32, 64), True: (1, 2, 4)}  # images at once; at full size
PACKAGES = ("anon-engines", "numpy", "torch", "diffusers", "onnxruntime", "openvino", "optimum-onnx",
            "stable-diffusion-cpp-python")  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """A contender's turns beside the baseline's.

    Attributes:
        seconds, baseline: of each turn.
        error: largest difference from PyTorch, relative to the largest value; None if there is nothing to compare.
        peak: resident memory of the contender's process in bytes, at most.
    """

    name: str
    part: str
    seconds: list[float]
    baseline: list[float]
    error: float | None
    peak: int

    @property
    def ratios(self) -> list[float]:
        """How many times as fast as the baseline, turn by turn."""
        return [theirs / ours for ours, theirs in zip(self.seconds, self.baseline, strict=True)]


def compare(baseline: Rival, name: str, part: str, folder: Path, sizes: Sizes, repeats: int, threads: int) -> Pair:
    """A contender and the baseline in turns, after one turn each that does not count."""
    inputs = sizes.inputs(part)
    with Rival(name, folder, part, threads) as rival:
        expected, result = baseline.turn(inputs).result, rival.turn(inputs).result
        turns = [(rival.turn(inputs), baseline.turn(inputs)) for _ in range(repeats)]
    assert expected is not None
    error = None if result is None else float(np.abs(result - expected).max() / np.abs(expected).max())
    peak = max(ours.peak for ours, _ in turns)
    return Pair(name, part, [ours.seconds for ours, _ in turns], [theirs.seconds for _, theirs in turns], error, peak)


def sgemm_rate(repeats: int = 5) -> float:
    """The machine's own rate of fp32 matrix multiplication in FLOP/s: the best library's best of several sizes."""
    import onnx
    import onnxruntime
    import torch

    rates = []
    for side in (1024, 2048, 3072):
        a = np.random.default_rng(0).standard_normal((side, side)).astype(np.float32)
        value = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("MatMul", ["a", "a"], ["b"])], "sgemm",
            [value("a", onnx.TensorProto.FLOAT, [side, side])], [value("b", onnx.TensorProto.FLOAT, [side, side])],
        )  # fmt: skip
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        multiply = (partial(np.matmul, a, a), partial(torch.matmul, *2 * [torch.from_numpy(a)]))
        for call in (*multiply, partial(session.run, None, {"a": a})):
            rates += [2 * side**3 / seconds for seconds in time_calls(call, repeats)]
    return max(rates)


def time_calls(call: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each call, after one that does not count."""
    call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def count_flops(folder: Path, part: str, sizes: Sizes) -> float:
    """Multiplications and additions of convolutions, matrix products and attention, as PyTorch counts its own."""
    from torch.utils.flop_counter import FlopCounterMode

    call, inputs = torch_eager(folder, part), sizes.inputs(part)
    with FlopCounterMode(display=False) as counter:
        call(inputs)
    return float(counter.get_total_flops())


def measure_batches(folder: Path, counts: Sequence[int], repeats: int) -> list[dict[str, float]]:
    """Whole images a second and seconds to wait, by the number of images generated at once."""
    from anon_runtime import Anonymizer, Request, Settings

    anonymizer, found = Anonymizer.load(folder / "engines" / "ours", checksum=False), []
    for count in tqdm(counts, desc="batches"):
        requests = [Request("portrait of a woman, Smiling ", " Bald ", seed) for seed in range(count)]
        middle = statistics.median(time_calls(partial(anonymizer.generate, requests, Settings(steps=2)), repeats))
        found.append({"images": count, "seconds": middle, "images_per_second": count / middle})
    return found


def machine(threads: int) -> dict[str, str | int]:
    """What the figures depend on."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    cpu = next((line.split(":")[1].strip() for line in _cpu_lines() if line.startswith("model name")), "unknown")
    return {"cpu": cpu, "threads": threads, "python": platform.python_version(), **versions}


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def run(folder: Path, *, full_size: bool, repeats: int, only: Sequence[str]) -> dict[str, Any]:
    """Everything that is measured, as JSON can say it."""
    threads = len(os.sched_getaffinity(0))
    sizes = prepare(folder, full_size=full_size)
    if set(only) & set(PLAIN):
        prepare_plain(folder, sizes)
    pairs, absent = [], {}
    names = [name for name in CONTENDERS if name in only and name != BASELINE]
    with tqdm(total=len(PARTS) * len(names), desc="contenders") as bar:
        for part in PARTS:
            with Rival(BASELINE, folder, part, threads) as baseline:
                for name in names:
                    try:
                        turns = min(repeats, 2) if name in SLOW else repeats
                        pairs.append(compare(baseline, name, part, folder, sizes, turns, threads))
                    except AbsentError as error:
                        absent[f"{name}, {part}"] = str(error)
                    bar.update()
    flops = {part: count_flops(folder, part, sizes) for part in PARTS}
    return {
        "machine": machine(threads), "full_size": full_size, "flops": flops, "sgemm": sgemm_rate(),
        "pairs": [asdict(pair) for pair in pairs], "absent": absent,
        "images": latency.measure(folder, 15),
        "batches": measure_batches(folder, BATCHES[full_size], 1 if full_size else 3),
    }  # fmt: skip


def table(report: dict[str, Any]) -> list[str]:
    """The report as Markdown."""
    lines = [f"| {' | '.join(f'{k} {v}' for k, v in report['machine'].items())} |".replace(" | ", ", ")]
    lines += ["", "| part | contender | seconds (min-max) | times as fast as PyTorch (min-max) | rate / sgemm | "
              "difference | peak memory |", "|---|---|---|---|---|---|---|"]  # fmt: skip
    for part in PARTS:
        pairs = [Pair(**pair) for pair in report["pairs"] if pair["part"] == part]
        eager = [seconds for pair in pairs for seconds in pair.baseline]
        rate = report["flops"][part] / report["sgemm"]
        if eager:
            lines.append(f"| {part} | {BASELINE} | {_spread(eager)} | 1 | {rate / statistics.median(eager):.2f} | | |")
        for pair in pairs:
            share = rate / statistics.median(pair.seconds)
            cells = (part, pair.name, _spread(pair.seconds), _spread(pair.ratios, 2), f"{share:.2f}",
                     "" if pair.error is None else f"{pair.error:.1e}", f"{pair.peak / 1e9:.2f} GB")  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    lines += [f"| {name} | absent: {why} | | | | |" for name, why in report["absent"].items()]
    stages = list(next(iter(report["images"].values()))["stages"])
    lines += ["", f"| an image, 15 steps | {' | '.join(stages)} | process start to UNet | peak memory |"]
    lines.append("|---" * (len(stages) + 3) + "|")
    for name, image in report["images"].items():
        seconds = " | ".join(f"{value:.3f} s" for value in (*image["stages"].values(), image["to_unet"]))
        lines.append(f"| {name} | {seconds} | {image['peak'] / 1e9:.2f} GB |")
    lines += ["", "| images at once | seconds | images a second (two steps) |", "|---|---|---|"]
    lines += [f"| {b['images']} | {b['seconds']:.2f} | {b['images_per_second']:.3f} |" for b in report["batches"]]
    return lines


def _spread(values: Sequence[float], digits: int = 3) -> str:
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def main() -> None:
    """Measure, print the table, write JSON and plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full-size", action="store_true")
    parser.add_argument("--folder", type=Path, help="for models and engines, which are kept for the next time")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plots", type=Path, help="folder for PNG plots")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        report = run(folder, full_size=options.full_size, repeats=options.repeats, only=options.only)
    print("\n".join(table(report)))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2))
    if options.plots:
        from .plots import draw

        draw(report, options.plots)


if __name__ == "__main__":
    main()
