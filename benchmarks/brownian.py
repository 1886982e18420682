"""How long the noise of an image takes on one core: this runtime's Brownian tree beside torchsde's, taking turns.

python -m benchmarks.brownian [--size 512] [--steps 15] [--repeats 15]
"""

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from anon_runtime.diffusion.brownian import draw_tree, plan_tree
from anon_runtime.diffusion.schedule import load_schedule

from .exactness import brownian_noise

TABLES = Path(__file__).parents[1] / "engines" / "demo" / "scheduler" / "tables.npz"


def seconds(work: Callable[[], object]) -> float:
    """Time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512, help="pixels a side")
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # torchsde, where a query leaves the path's ends
    schedule = load_schedule(TABLES, "dpmpp_sde", options.steps)
    plan, values = plan_tree(schedule), 4 * (options.size // 8) ** 2
    turns = [
        (seconds(lambda: draw_tree(plan, seed, values)), seconds(lambda: brownian_noise(schedule, seed, values)))  # noqa: B023
        for seed in range(options.repeats + 1)
    ][1:]
    ours, theirs = ([turn[side] * 1e3 for turn in turns] for side in (0, 1))
    print(f"{1 + len(plan.keys)} vectors of {values} normal numbers")
    for name, times in (("anon-engines", ours), ("torchsde", theirs)):
        print(f"{name}: {statistics.median(times):.0f} ms ({min(times):.0f}-{max(times):.0f})")
    print(f"ratio of medians: {statistics.median(theirs) / statistics.median(ours):.1f} x")


if __name__ == "__main__":
    main()
