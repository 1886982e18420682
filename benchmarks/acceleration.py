"""Time that ``anon-run --fast`` saves and quality that it costs, on the demo's trained networks.

    python -m benchmarks.acceleration DATA [--bundle engines/demo] [--full-size BUNDLE] [--json FILE]

DATA is the folder that `benchmarks.demo_model` takes. Each acceleration, alone and with others, is compared with exact
sampling: samples that the UNet works on, the UNet's time for them, PSNR to the exact image, AUC of the attributes, and
the share of images with exactly one face. The prompts are those of the held-out photos. Both bundles have to be built
with --deepcache.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
from tqdm import tqdm

from anon_runtime import Anonymizer, Settings
from anon_runtime.diffusion.acceleration import FAST_LEVELS, Acceleration, choose_evaluations
from anon_runtime.types import Pixels, Sampler

from .command_line import one_line_errors

with one_line_errors(__name__, extras="export,demo"):
    from anon_export.build.verify import psnr
    from anon_export.demo.training.captions import labelled
    from anon_export.demo.training.data import Photos, load_photos, split

    from .demo_model import generate, score_images

INTERVAL = (0.15, 6.0)
TWO_M: Sampler = "dpmpp_2m_sde"
VARIANTS = {
    "exact": Settings(),
    "guidance interval 0.15-6": Settings(acceleration=Acceleration(guidance_interval=INTERVAL)),
    "DeepCache, interval 3": Settings(acceleration=Acceleration(cache_interval=3)),
    "guidance interval 0.15-6, DeepCache, interval 3": Settings(
        acceleration=Acceleration(guidance_interval=INTERVAL, cache_interval=3)
    ),
    "2M SDE": Settings(acceleration=Acceleration(TWO_M)),
    "2M SDE, guidance interval 0.15-6": Settings(acceleration=Acceleration(TWO_M, INTERVAL)),
    "2M SDE, guidance interval 0.15-4": Settings(acceleration=Acceleration(TWO_M, (0.15, 4.0))),
    "2M SDE, guidance interval 0.3-6": Settings(acceleration=Acceleration(TWO_M, (0.3, 6.0))),
    "2M SDE, guidance interval 0.15-6, DeepCache, interval 2": Settings(
        acceleration=Acceleration(TWO_M, INTERVAL, cache_interval=2)
    ),
}


@dataclass(frozen=True)
class Cost:
    """Time and quality of a variant.

    Attributes:
        name: of the variant.
        level: of ``--fast`` that uses the variant; None if there is none.
        samples: that the UNet works on for one image.
        work: the UNet's time for one image relative to exact sampling, by bundle.
        psnr: of the images relative to the exact images, in dB.
        auc: of the attributes that are read from the images, the mean over the attributes.
        one_face: share of images with exactly one face.
    """

    name: str
    level: int | None
    samples: int
    work: list[float]
    psnr: float
    auc: float
    one_face: float


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


def measure(
    anonymizer: Anonymizer, photos: Photos, variants: dict[str, Settings], shares: Sequence[float]
) -> list[Cost]:
    """Measure every variant and compare it with the first one.

    Args:
        anonymizer: generates the images.
        photos: whose labels become prompts.
        variants: settings by name.
        shares: see `cached_share`, one for each bundle.
    """
    costs: list[Cost] = []
    exact: Sequence[Pixels] = ()
    exact_work: list[float] = []
    people = [labelled(photos, i) for i in range(len(photos))]
    for name, settings in tqdm(variants.items(), desc="variants"):
        images = generate(anonymizer, people, settings, 1000)
        exact = exact or images
        aucs, one_face = score_images(anonymizer, photos, images)
        counts = [count_samples(anonymizer, settings, share) for share in shares]
        exact_work = exact_work or [work for _, work in counts]
        level = next(
            (k for k, acceleration in enumerate(FAST_LEVELS) if settings == Settings(acceleration=acceleration)), None
        )
        costs.append(
            Cost(
                name,
                level,
                counts[0][0],
                [work / whole for (_, work), whole in zip(counts, exact_work, strict=True)],
                float(np.mean([min(psnr(a, b), 99.0) for a, b in zip(images, exact, strict=True)])),
                float(np.mean(list(aucs.values()))),
                one_face,
            )
        )
    return costs


def table(costs: Sequence[Cost]) -> list[str]:
    """The lines of the table in Markdown."""
    titles = ["UNet, demo", "UNet, full size"][: len(costs[0].work)]
    lines = [f"| | `--fast` | samples | {' | '.join(titles)} | PSNR to exact | AUC | one face |"]
    lines.append("|---" * (6 + len(titles)) + "|")
    for cost in costs:
        level = "" if cost.level is None else str(cost.level)
        near = "" if cost is costs[0] else f"{cost.psnr:.1f} dB"
        faster = (f"{1 / work:.2f} x" for work in cost.work)
        cells = (cost.name, level, str(cost.samples), *faster, near, f"{cost.auc:.3f}", f"{cost.one_face:.3f}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the demo's training data")
    parser.add_argument("--bundle", type=Path, default=Path("engines/demo"), help="default: %(default)s")
    parser.add_argument("--full-size", type=Path, help="bundle of Stable Diffusion 1.5, whose time is measured as well")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    _, photos = split(load_photos(options.data))
    bundles = [options.bundle] + [options.full_size] * bool(options.full_size)
    shares = [cached_share(Anonymizer.load(bundle)) for bundle in bundles]
    print(f"time of the cached UNet relative to the full one: {', '.join(f'{share:.3f}' for share in shares)}")
    costs = measure(Anonymizer.load(options.bundle), photos, VARIANTS, shares)
    print("\n".join(table(costs)))
    if options.json:
        options.json.write_text(json.dumps([asdict(cost) for cost in costs], indent=2))


if __name__ == "__main__":
    with one_line_errors(__name__, extras="export,demo"):
        main()
