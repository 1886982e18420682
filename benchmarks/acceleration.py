"""Time that ``anon-run --fast`` saves and quality that it costs, on the demo's trained networks.

    python -m benchmarks.acceleration DATA --bundle NAME FOLDER [--bundle NAME FOLDER]... [--json FILE] [--grid FILE]

DATA is the folder that `benchmarks.demo_model` takes. The bundles are builds of the demo, and the first of them is
exact. Each acceleration is run on every bundle that has what it needs, and compared with exact sampling on the first
one: samples that the UNet works on, the UNet's time, PSNR to the exact image, AUC of the attributes, the share of
images with exactly one face, and the distance of the two sets of images (FID's formula) in features of the demo's
attribute network. The last row has exact images of other seeds, as a measure of these distances. The prompts are those
of the held-out photos. Build the other bundles with ``--deepcache``, ``--cache-branch``, or ``--target openvino
--precision int8``.
"""

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from tqdm import tqdm

from anon_runtime import Anonymizer, Settings
from anon_runtime.diffusion.acceleration import FAST_LEVELS, Acceleration, choose_evaluations
from anon_runtime.types import Sampler

from .command_line import one_line_errors

with one_line_errors(__name__, extras="export,demo"):
    from anon_export.comparison import psnr
    from anon_export.demo.training.captions import labelled
    from anon_export.demo.training.data import Photos, load_photos, split

    from .demo_model import features, generate, score_images

INTERVAL = (0.15, 6.0)
TWO_M: Sampler = "dpmpp_2m_sde"
EXACT = Settings(guard="off")
VARIANTS = {
    name: replace(EXACT, acceleration=acceleration)
    for name, acceleration in {
        "exact": Acceleration(),
        "guidance 0.15-6": Acceleration(guidance_interval=INTERVAL),
        "guidance above 0.6": Acceleration(guidance_interval=(0.6, math.inf)),
        "reused twice": Acceleration(cache_interval=3),
        "guidance 0.15-6, reused once": Acceleration(guidance_interval=INTERVAL, cache_interval=2),
        "guidance 0.15-6, reused twice": Acceleration(guidance_interval=INTERVAL, cache_interval=3),
        "2M SDE, guidance 0.3-6": Acceleration(TWO_M, (0.3, 6.0)),
        "2M SDE, guidance 0.15-6, reused once": Acceleration(TWO_M, INTERVAL, cache_interval=2),
        "2M SDE, guidance 0.3-6, reused twice": Acceleration(TWO_M, (0.3, 6.0), cache_interval=3),
    }.items()
} | {"10 steps": replace(EXACT, steps=10)}
FIRST_SEED = 1000
SHOWN = 8  # people in the grid
LABEL = 110  # width of its labels in pixels


@dataclass(frozen=True)
class Cost:
    """Time and quality of a variant on a bundle.

    Attributes:
        bundle: its name.
        name: of the variant.
        level: of ``--fast`` that uses the variant; None if there is none.
        samples: that the UNet works on for one image.
        work: the UNet's time for one image, in samples of the whole UNet.
        psnr: of the images relative to the exact images, the median in dB.
        auc: of the attributes that are read from the images, the mean over the attributes.
        one_face: share of images with exactly one face.
        distance: of the features of the images and of the exact images, by FID's formula.
    """

    bundle: str
    name: str
    level: int | None
    samples: int
    work: float
    psnr: float
    auc: float
    one_face: float
    distance: float


def count_samples(anonymizer: Anonymizer, settings: Settings, cached: float) -> tuple[int, float]:
    """Samples that the UNet works on for one image, and the time for them in samples of the full UNet.

    Args:
        anonymizer: whose schedule is used.
        settings: of the variant.
        cached: time for a sample that uses cached features, in the same unit.
    """
    evaluations = choose_evaluations(anonymizer.using(settings).generator.schedule, settings.acceleration)
    samples = [1 + evaluation.guided for evaluation in evaluations]
    return sum(samples), sum(n * (1 if e.full else cached) for n, e in zip(samples, evaluations, strict=True))


def cached_share(anonymizer: Anonymizer, repeats: int = 9) -> float:
    """Time of the UNet that uses cached features relative to the full UNet, on inputs of an image's sizes."""
    spec = {tensor.name: tensor for tensor in anonymizer.engines.bundle.spec("unet_cached").inputs}
    rng = np.random.default_rng(0)
    latents = anonymizer.engines.bundle.manifest.generator.latent_shape
    width = int(spec["encoder_hidden_states"].shape[-1])
    inputs = {
        "sample": rng.standard_normal((2, *latents)).astype(np.float32),
        "timestep": np.asarray(500, np.float32),
        "encoder_hidden_states": rng.standard_normal((2, 154, width)).astype(np.float32),
    }
    full, cached = anonymizer.engines["unet"], anonymizer.engines["unet_cached"]
    deep = full(inputs)["deep"]
    ratios = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        full(inputs)
        middle = time.perf_counter()
        cached(inputs | {"deep": deep})
        ratios.append((time.perf_counter() - middle) / (middle - start))
    return median(ratios[1:])


def frechet_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """The distance of two sets of features (n, width), by FID's formula (Heusel et al., 2017)."""
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    roots = np.sqrt(np.clip(np.linalg.eigvals(covariances[0] @ covariances[1]).real, 0, None))
    means = float(((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum())
    return max(0.0, means + float(np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * roots.sum()))


def measure(bundles: Mapping[str, Anonymizer], photos: Photos, variants: Mapping[str, Settings]) -> list[Cost]:
    """Measure every variant on every bundle that has what it needs, and compare it with the first one on the first.

    Args:
        bundles: by name.
        photos: whose labels become prompts.
        variants: settings by name.
    """
    people = [labelled(photos, i) for i in range(len(photos))]
    exact = generate(next(iter(bundles.values())), people, EXACT, FIRST_SEED)
    known, costs = features(exact).numpy(), list[Cost]()
    shares = {name: cached_share(own) if caches(own) else 1.0 for name, own in bundles.items()}

    def compare(bundle: str, name: str, settings: Settings, first_seed: int = FIRST_SEED) -> Cost:
        anonymizer = bundles[bundle]
        images = generate(anonymizer, people, settings, first_seed)
        aucs, one_face = score_images(anonymizer, photos, images)
        samples, work = count_samples(anonymizer, settings, shares[bundle])
        level = next((k for k, own in enumerate(FAST_LEVELS) if settings == replace(EXACT, acceleration=own)), None)
        ratio = median(min(psnr(a, b), 99.0) for a, b in zip(images, exact, strict=True))
        mean = float(np.mean(list(aucs.values())))
        distance = frechet_distance(features(images).numpy(), known)
        return Cost(bundle, name, level, samples, work, ratio, mean, one_face, distance)

    runs = [(b, n) for b, own in bundles.items() for n, s in variants.items() if caches(own) or not reuses(s)]
    for bundle, name in tqdm(runs, desc="variants"):
        costs.append(compare(bundle, name, variants[name]))
    costs.append(compare(next(iter(bundles)), "exact, other seeds", EXACT, FIRST_SEED + 1000))
    return costs


def draw_grid(bundles: Mapping[str, Anonymizer], photos: Photos, path: Path) -> None:
    """Draw the same people with the same seeds, a row for each level of each bundle."""
    people = [labelled(photos, i) for i in range(SHOWN)]
    rows = []
    for name, anonymizer in bundles.items():
        for level, acceleration in enumerate(FAST_LEVELS):
            settings = replace(EXACT, acceleration=acceleration)
            if reuses(settings) and not caches(anonymizer):
                continue
            images = generate(anonymizer, people, settings, FIRST_SEED)
            label = Image.new("RGB", (LABEL, images[0].shape[0]), "white")
            ImageDraw.Draw(label).text((6, 6), f"{name}\n--fast {level}", "black")
            rows.append(np.concatenate([np.asarray(label), *images], axis=1))
    Image.fromarray(np.concatenate(rows)).save(path, optimize=True)


def caches(anonymizer: Anonymizer) -> bool:
    """Whether a bundle was built for DeepCache."""
    return "unet_cached" in anonymizer.engines.bundle.manifest.engines


def reuses(settings: Settings) -> bool:
    """Whether settings need a bundle for DeepCache."""
    return settings.acceleration.cache_interval > 1


def table(costs: Sequence[Cost]) -> list[str]:
    """The lines of the table in Markdown."""
    lines = ["| bundle | | `--fast` | samples | UNet | PSNR to exact | AUC | one face | distance |", "|---" * 9 + "|"]
    for cost in costs:
        level = "" if cost.level is None else str(cost.level)
        near = "" if cost.psnr >= 99 else f"{cost.psnr:.1f} dB"
        faster = f"{costs[0].samples / cost.work:.2f} x"
        cells = (cost.bundle, cost.name, level, str(cost.samples), faster, near)
        lines.append(f"| {' | '.join(cells)} | {cost.auc:.4f} | {cost.one_face:.3f} | {cost.distance:.4f} |")
    return lines


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the demo's training data")
    parser.add_argument(
        "--bundle", nargs=2, action="append", required=True, metavar=("NAME", "FOLDER"), help="a bundle"
    )
    parser.add_argument(
        "--only", nargs="+", choices=VARIANTS, metavar="NAME", help=f"rows beside the exact ones: {'; '.join(VARIANTS)}"
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--grid", type=Path, help="also draw images of each level into this PNG file")
    options = parser.parse_args()
    _, photos = split(load_photos(options.data))
    bundles = {name: Anonymizer.load(folder, EXACT) for name, folder in options.bundle}
    if options.grid:
        draw_grid(bundles, photos, options.grid)
    costs = measure(
        bundles, photos, {n: s for n, s in VARIANTS.items() if s == EXACT or n in (options.only or VARIANTS)}
    )
    print("\n".join(table(costs)))
    if options.json:
        options.json.write_text(json.dumps([asdict(cost) for cost in costs], indent=2))


if __name__ == "__main__":
    with one_line_errors(__name__, extras="export,demo"):
        main()
