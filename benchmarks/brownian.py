"""Time to draw the noise of one image on one core: the runtime's Brownian tree and torchsde's, in interleaved runs.

python -m benchmarks.brownian [--size 512] [--steps 15] [--repeats 15]
"""

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

from .command_line import one_line_errors

with one_line_errors(__name__, extras="export"):
    import torch

    from anon_runtime.diffusion.brownian import build_tree, sample_tree
    from anon_runtime.diffusion.schedule import load_schedule

    from .exactness import brownian_noise

TABLES = Path(__file__).parents[1] / "engines" / "demo" / "scheduler" / "tables.npz"


def seconds(call: Callable[[], object]) -> float:
    """Time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print the times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512, help="width and height of the image in pixels")
    parser.add_argument("--steps", type=int, default=15, help="steps of the sampler")
    parser.add_argument("--repeats", type=int, default=15, help="number of runs that are measured")
    options = parser.parse_args()
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # torchsde warns where a query lies beyond the ends of the path
    schedule = load_schedule(TABLES, "dpmpp_sde", options.steps)
    tree, values = build_tree(schedule), 4 * (options.size // 8) ** 2
    times: dict[str, list[float]] = {"anon-engines": [], "torchsde": []}
    for seed in range(options.repeats + 1):
        times["anon-engines"].append(seconds(partial(sample_tree, tree, seed, values)))
        times["torchsde"].append(seconds(partial(brownian_noise, schedule, seed, values)))
    print(f"{1 + len(tree.keys)} vectors of {values} normal numbers")
    medians = []
    for name, found in times.items():
        measured = [1e3 * value for value in found[1:]]  # the first run fills caches
        medians.append(statistics.median(measured))
        print(f"{name}: {medians[-1]:.0f} ms ({min(measured):.0f}-{max(measured):.0f})")
    print(f"ratio of medians: {medians[1] / medians[0]:.1f} x")


if __name__ == "__main__":
    with one_line_errors(__name__, extras="export"):
        main()
