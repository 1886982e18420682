"""What it costs to have and to start: this runtime beside diffusers with PyTorch, measured in one run.

Makes two fresh virtual environments, one with `anon-engines[cpu]` and one with diffusers, transformers, torch and
torchsde; measures their installed size, and then, taking turns, the time from process start to the first UNet call and
the peak memory up to there, each process generating the same prompt with the same model.

    python -m benchmarks.footprint [--repeats 7] [--json FILE]

Needs `engines/demo` (`make demo`). Downloads about 1 GB of packages on its first run.
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

ROOT = Path(__file__).parents[1]

# Each program prints the clock and its peak memory (KiB) when the UNet is called for the first time, and stops there.
# VmHWM and not getrusage: the latter also counts the parent from before the program started.
REPORT = """
import os, re, time
def stop(*args, **kwargs):
    peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]
    print(time.clock_gettime(time.CLOCK_MONOTONIC), peak, flush=True)
    os._exit(0)
"""
OURS = f"""{REPORT}
import sys
from anon_runtime import pipeline
load = pipeline.load_engine
pipeline.load_engine = lambda t, path, *rest: (load(t, path, *rest), stop)["unet" in str(path)]
from anon_runtime.cli import main
main(["--prompt", "portrait of a woman", "--seed", "7", "-o", sys.argv[2] + "/o.png", "--engines", sys.argv[1]])
"""
THEIRS = f"""{REPORT}
import sys, torch
from diffusers import DPMSolverSDEScheduler, StableDiffusionPipeline
pipeline = StableDiffusionPipeline.from_pretrained(sys.argv[1], safety_checker=None, requires_safety_checker=False)
config = pipeline.scheduler.config
pipeline.scheduler = DPMSolverSDEScheduler.from_config(config, use_karras_sigmas=True, noise_sampler_seed=7)
pipeline.unet.forward = stop
pipeline("portrait of a woman", num_inference_steps=15, generator=torch.Generator().manual_seed(7))
"""


def make_environment(folder: Path, requirements: list[str]) -> Path:
    """A fresh virtual environment with packages; returns its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", *requirements]
    subprocess.run(pip, check=True, cwd=ROOT)
    subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", "setuptools", "pip"], check=True)
    return python


def installed_bytes(folder: Path) -> int:
    """Size of an environment's packages, without the compiled copies that Python makes itself."""
    files = (path for path in (folder / "lib").rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files if path.suffix != ".pyc")


def first_unet_call(python: Path, program: str, *arguments: Path) -> tuple[float, int]:
    """Seconds from process start to the first UNet call, and the peak memory in bytes up to there."""
    start = time.clock_gettime(time.CLOCK_MONOTONIC)
    command = [python, "-c", program, *arguments]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    clock, kibibytes = result.stdout.split()[-2:]
    return float(clock) - start, int(kibibytes) * 1024


def measure(bundle: Path, model: Path, repeats: int, scratch: Path) -> dict[str, dict[str, float]]:
    """All figures of both, runs taking turns after one that warms the disk cache."""
    sides = {
        "anon-engines": (make_environment(scratch / "ours", [".[cpu]"]), OURS, bundle),
        "diffusers": (
            make_environment(scratch / "theirs", ["torch", "diffusers", "transformers", "torchsde"]), THEIRS, model,
        ),
    }  # fmt: skip
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
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    from anon_export.demo.weights import write_demo

    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        write_demo(scratch / "model")
        figures = measure(ROOT / "engines" / "demo", scratch / "model", options.repeats, scratch)
    print("| | installed | start to first UNet call (min-max) | peak memory there |\n|---|---|---|---|")
    for name, f in figures.items():
        spread = f"{f['start_min_s']:.2f}-{f['start_max_s']:.2f}"
        print(f"| {name} | {f['installed_mb']:.0f} MB | {f['start_s']:.2f} s ({spread}) | {f['memory_mb']:.0f} MB |")
    ours, theirs = figures["anon-engines"], figures["diffusers"]
    print(
        "| ratio | "
        + " | ".join(f"{theirs[k] / ours[k]:.1f} x" for k in ("installed_mb", "start_s", "memory_mb"))
        + " |"
    )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
