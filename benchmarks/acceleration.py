"""What ``anon-run --fast`` saves and what it costs, on the demo's trained networks.

    python -m benchmarks.acceleration DATA [--bundle engines/demo] [--full-size BUNDLE] [--json FILE]

DATA as for `benchmarks.demo_model`. Every saving alone and together, beside the exact way: samples that the UNet
works on, the UNet's time for them, PSNR to the exact image, attribute AUC, and images with exactly one face, over
the prompts of the photos that were held out. Both bundles have to be built with --deepcache.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from anon_export.build.verify import psnr
from anon_export.demo.training.captions import labelled
from anon_export.demo.training.data import Photos, load_photos, split
from anon_runtime import Anonymizer, Settings
from anon_runtime.diffusion.acceleration import FAST_LEVELS, Acceleration, choose_evaluations

from .demo_model import generate, judge

INTERVAL = (0.15, 6.0)
TWO_M = "dpmpp_2m_sde"
VARIANTS = {
    "exact": Settings(),
    "guidance only from sigma 0.15 to 6": Settings(acceleration=Acceleration(guidance_interval=INTERVAL)),
    "deep features reused twice": Settings(acceleration=Acceleration(cache_interval=3)),
    "guidance 0.15-6, reused twice": Settings(acceleration=Acceleration(guidance_interval=INTERVAL, cache_interval=3)),
    "2M SDE": Settings(acceleration=Acceleration(TWO_M)),
    "2M SDE, guidance 0.15-6": Settings(acceleration=Acceleration(TWO_M, INTERVAL)),
    "2M SDE, guidance 0.15-4": Settings(acceleration=Acceleration(TWO_M, (0.15, 4.0))),
    "2M SDE, guidance 0.3-6": Settings(acceleration=Acceleration(TWO_M, (0.3, 6.0))),
    "2M SDE, guidance 0.15-6, reused once": Settings(acceleration=Acceleration(TWO_M, INTERVAL, cache_interval=2)),
}


@dataclass(frozen=True)
class Cost:
    """Of a variant: samples an image, what the UNet takes for them, and what is lost.

    Attributes:
        level: its ``--fast`` level, if it is one.
        work: the UNet's time as a share of the exact way's, by bundle.
    """

    name: str
    level: int | None
    samples: int
    work: list[float]
    psnr: float
    auc: float
    alone: float


def count_samples(anonymizer: Anonymizer, settings: Settings, cached: float) -> tuple[int, float]:
    """Samples that the UNet works on for an image, and their cost in samples of the full UNet.

    ``cached`` is the cost of a sample that takes cached features, in the same unit.
    """
    evaluations = choose_evaluations(anonymizer.schedule_for(settings), settings.acceleration)
    samples = [1 + evaluation.guided for evaluation in evaluations]
    return sum(samples), sum(n * (1 if e.full else cached) for n, e in zip(samples, evaluations, strict=True))


def cached_share(anonymizer: Anonymizer, repeats: int = 9) -> float:
    """Time of the part that takes cached features over time of the full UNet, on the inputs that an image brings."""
    spec = {tensor.name: tensor for tensor in anonymizer.bundle.spec("unet_cached").inputs}
    rng = np.random.default_rng(0)
    latents = anonymizer.bundle.manifest.generator.latent_shape
    width = int(spec["encoder_hidden_states"].shape[-1])
    inputs = {
        "sample": rng.standard_normal((2, *latents)).astype(np.float32), "timestep": np.asarray(500, np.float32),
        "encoder_hidden_states": rng.standard_normal((2, 154, width)).astype(np.float32),
    }  # fmt: skip
    full, cached = anonymizer.engine("unet"), anonymizer.engine("unet_cached")
    deep = full(inputs)["deep"]
    turns = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        full(inputs)
        middle = time.perf_counter()
        cached(inputs | {"deep": deep})
        turns.append((time.perf_counter() - middle) / (middle - start))
    return median(turns[1:])


def measure(
    anonymizer: Anonymizer, photos: Photos, variants: dict[str, Settings], shares: Sequence[float]
) -> list[Cost]:  # fmt: skip
    """Every variant; the first one is what the others are compared with."""
    costs: list[Cost] = []
    exact: Sequence[NDArray[np.uint8]] = ()
    whole: list[float] = []
    people = [labelled(photos, i) for i in range(len(photos))]
    for name, settings in tqdm(variants.items(), desc="variants"):
        images = generate(anonymizer, people, settings, 1000)
        exact = exact or images
        aucs, alone = judge(anonymizer, photos, images)
        counted = [count_samples(anonymizer, settings, share) for share in shares]
        whole = whole or [work for _, work in counted]
        near = float(np.mean([min(psnr(a, b), 99.0) for a, b in zip(images, exact, strict=True)]))
        level = next(
            (k for k, acceleration in enumerate(FAST_LEVELS) if settings == Settings(acceleration=acceleration)), None
        )
        work = [work / all_of_it for (_, work), all_of_it in zip(counted, whole, strict=True)]
        costs.append(Cost(name, level, counted[0][0], work, near, float(np.mean(list(aucs.values()))), alone))
    return costs


def table(costs: Sequence[Cost]) -> list[str]:
    """As Markdown."""
    titles = ["UNet, demo", "UNet, full size"][: len(costs[0].work)]
    lines = [f"| | `--fast` | samples | {' | '.join(titles)} | PSNR to exact | AUC | one face |"]
    lines.append("|---" * (6 + len(titles)) + "|")
    for c in costs:
        level = "" if c.level is None else str(c.level)
        near = "" if c is costs[0] else f"{c.psnr:.1f} dB"
        faster = (f"{1 / work:.2f} x" for work in c.work)
        cells = (c.name, level, str(c.samples), *faster, near, f"{c.auc:.3f}", f"{c.alone:.3f}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--bundle", type=Path, default=Path("engines/demo"))
    parser.add_argument("--full-size", type=Path, help="a bundle of Stable Diffusion 1.5, for the time that it takes")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    _, photos = split(load_photos(options.data))
    bundles = [options.bundle] + [options.full_size] * bool(options.full_size)
    shares = [cached_share(Anonymizer.load(bundle)) for bundle in bundles]
    told = ", ".join(f"{share:.3f}" for share in shares)
    print(f"the part of the UNet that takes cached features needs {told} of the full one's time")
    costs = measure(Anonymizer.load(options.bundle), photos, VARIANTS, shares)
    print("\n".join(table(costs)))
    if options.json:
        options.json.write_text(json.dumps([asdict(cost) for cost in costs], indent=2))


if __name__ == "__main__":
    main()
