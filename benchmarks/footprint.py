"""Installed size, start-up time and memory of this runtime and of diffusers with PyTorch.

Makes two new virtual environments, one with `anon-engines[cpu]` and one with diffusers, transformers, torch and
torchsde, and measures their installed size. Then it measures, in interleaved runs, the time from the start of the
process to the first call of the UNet, and the peak memory until then. Both use the same prompt and the same model.

    python -m benchmarks.footprint [--repeats 7] [--json FILE]

The benchmark needs `engines/demo` (`make demo`). The first run downloads about 1 GB of packages.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TypedDict

from .command_line import one_line_errors

ROOT = Path(__file__).parents[1]

# Each program prints the clock and its peak memory (KiB) when the UNet is called for the first time, and ends.
# The memory is VmHWM, because getrusage also counts that of the parent process before the program starts.
REPORT = """
import os, re, time
def stop(*args, **kwargs):
    peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]
    print(time.clock_gettime(time.CLOCK_MONOTONIC), peak, flush=True)
    os._exit(0)
"""
RUNTIME_PROGRAM = f"""{REPORT}
import sys
from anon_runtime import Anonymizer
load = Anonymizer.engine
Anonymizer.engine = lambda anonymizer, role: (load(anonymizer, role), stop)[role == "unet"]
from anon_runtime.cli import main
main(["--prompt", "portrait of a woman", "--seed", "7", "-o", sys.argv[2] + "/o.png", "--engines", sys.argv[1]])
"""
DIFFUSERS_PROGRAM = f"""{REPORT}
import sys, torch
from diffusers import DPMSolverSDEScheduler, StableDiffusionPipeline
pipeline = StableDiffusionPipeline.from_pretrained(sys.argv[1], safety_checker=None, requires_safety_checker=False)
config = pipeline.scheduler.config
pipeline.scheduler = DPMSolverSDEScheduler.from_config(config, use_karras_sigmas=True, noise_sampler_seed=7)
pipeline.unet.forward = stop
pipeline("portrait of a woman", num_inference_steps=15, generator=torch.Generator().manual_seed(7))
"""


class Footprint(TypedDict):
    """What is measured of one side; megabytes and seconds."""

    installed_mb: float
    start_s: float
    start_min_s: float
    start_max_s: float
    memory_mb: float


def make_environment(folder: Path, requirements: list[str]) -> Path:
    """Make a new virtual environment with packages, and return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *constraints, *requirements], check=True, cwd=ROOT)
    subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", "setuptools", "pip"], check=True)
    return python


def installed_bytes(folder: Path) -> int:
    """Size of an environment's packages, without the files of bytecode that Python writes itself."""
    files = (path for path in (folder / "lib").rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files if path.suffix != ".pyc")


def first_unet_call(python: Path, program: str, *arguments: Path) -> tuple[float, int]:
    """Seconds from process start to the first UNet call, and the peak memory in bytes up to there."""
    start = time.clock_gettime(time.CLOCK_MONOTONIC)
    command: list[str | Path] = [python, "-c", program, *arguments]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    clock, kibibytes = result.stdout.split()[-2:]
    return float(clock) - start, int(kibibytes) * 1024


def measure(bundle: Path, model: Path, repeats: int, scratch: Path) -> dict[str, Footprint]:
    """Measure both sides in interleaved runs, after one that fills the disk cache."""
    sides = {
        "anon-engines": (make_environment(scratch / "runtime", [".[cpu]"]), RUNTIME_PROGRAM, bundle),
        "diffusers": (
            make_environment(scratch / "diffusers", ["torch", "diffusers", "transformers", "torchsde"]),
            DIFFUSERS_PROGRAM,
            model,
        ),
    }
    runs: dict[str, list[tuple[float, int]]] = {name: [] for name in sides}
    for _ in range(repeats + 1):
        for name, (python, program, source) in sides.items():
            runs[name].append(first_unet_call(python, program, source, scratch))
    return {
        name: {
            "installed_mb": installed_bytes(python.parents[1]) / 1e6,
            "start_s": statistics.median(seconds for seconds, _ in runs[name][1:]),
            "start_min_s": min(seconds for seconds, _ in runs[name][1:]),
            "start_max_s": max(seconds for seconds, _ in runs[name][1:]),
            "memory_mb": statistics.median(memory for _, memory in runs[name][1:]) / 1e6,
        }
        for name, (python, _, _) in sides.items()
    }


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, help="number of runs of each side; default: %(default)s")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    from anon_export.demo.weights import write_demo

    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        write_demo(scratch / "model")
        figures = measure(ROOT / "engines" / "demo", scratch / "model", options.repeats, scratch)
    print("| | installed | start to first UNet call (min-max) | peak memory until then |\n|---|---|---|---|")
    for name, own in figures.items():
        start = f"{own['start_s']:.2f} s ({own['start_min_s']:.2f}-{own['start_max_s']:.2f})"
        print(f"| {name} | {own['installed_mb']:.0f} MB | {start} | {own['memory_mb']:.0f} MB |")
    ours, theirs = figures["anon-engines"], figures["diffusers"]
    ratios = (
        theirs["installed_mb"] / ours["installed_mb"],
        theirs["start_s"] / ours["start_s"],
        theirs["memory_mb"] / ours["memory_mb"],
    )
    print("| ratio | " + " | ".join(f"{ratio:.1f} x" for ratio in ratios) + " |")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    with one_line_errors(__name__, extras="export"):
        main()
