"""What the levels of ``anon-run --fast`` save and cost with a bundle, on images of people with random attributes."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median

import numpy as np

from anon_runtime import Request, Settings
from anon_runtime.backends.engines import Engines
from anon_runtime.backends.processor import processor_name
from anon_runtime.bundle.manifest import LevelCost, LevelCosts
from anon_runtime.diffusion.acceleration import FAST_LEVELS
from anon_runtime.diffusion.generator import Generator
from anon_runtime.types import Pixels

from .comparison import psnr
from .quantization.damage import compare_faces
from .quantization.recording import write_requests

SEED, OTHER_SEEDS = 3, 500  # people that no UNet was calibrated with; what is added to a seed for another one
EXACT, OTHERS = "0", "other seeds"


def measure(
    engines: Engines, count: int, report: Callable[[int, int], object] = lambda done, total: None
) -> LevelCosts:
    """Generate the same people exactly, with each level that the bundle has, and exactly with other seeds.

    The kinds of images take turns, so that a machine that becomes slower slows all of them.

    Args:
        engines: the engines of the bundle.
        count: the number of images of each kind.
        report: called with the number of images that are done and the number of all.

    Raises:
        BundleError: the bundle cannot generate images, or a file of it is damaged.
        BackendError: an engine cannot be loaded or run, or returned NaN or infinity.
    """
    generators = _load_generators(engines)
    images: dict[str, list[Pixels]] = defaultdict(list)
    seconds: dict[str, list[float]] = defaultdict(list)
    total = count * (len(generators) + 1)
    for request in write_requests(count, SEED):
        ways: list[tuple[str, Request]] = [(level, request) for level in generators]
        for kind, own in [*ways, (OTHERS, replace(request, seed=request.seed + OTHER_SEEDS))]:
            report(sum(map(len, images.values())), total)
            portrait = generators.get(kind, generators[EXACT]).generate([own])[0]
            images[kind].append(np.asarray(portrait.image))
            seconds[kind].append(portrait.seconds["unet"])
    report(total, total)

    def cost(kind: str) -> LevelCost:
        speed = median(exact / own for exact, own in zip(seconds[EXACT], seconds[kind], strict=True))
        return _compare(engines, images[kind], images[EXACT], speed)

    levels = {level: cost(level) for level in generators if level != EXACT}
    return LevelCosts(processor_name(), count, levels, cost(OTHERS))


def _load_generators(engines: Engines) -> dict[str, Generator]:
    """A generator for each level of fast mode that the bundle has, by number."""
    manifest = engines.bundle.manifest
    found = {}
    for level, acceleration in enumerate(FAST_LEVELS):
        if acceleration.cache_interval == 1 or "unet_cached" in manifest.engines:
            options = Settings(guard="off", acceleration=acceleration).resolve(manifest).sampling
            found[str(level)] = Generator.load(engines, options)
    return found


def _compare(engines: Engines, images: Sequence[Pixels], exact: Sequence[Pixels], speed: float) -> LevelCost:
    near = median(min(psnr(own, other), 999.0) for own, other in zip(images, exact, strict=True))
    return LevelCost(speed, near, *compare_faces(engines, images, exact))
