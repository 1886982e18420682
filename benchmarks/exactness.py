"""Differences between the runtime and diffusers, each with its bound.

    python -m benchmarks.exactness [--seeds 20]

Builds three models with random weights (a minute each) and compares scheduler tables, random numbers, the Brownian
tree, the sampling loop and whole images with diffusers, torch and torchsde. The exit code is 1 if a difference is
outside its bound.
"""

import argparse
import itertools
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar
from unittest import mock

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image
from tqdm import tqdm

from anon_runtime import Anonymizer, Request, Settings
from anon_runtime.backends.engines import Engines
from anon_runtime.diffusion import brownian
from anon_runtime.diffusion.inpainting import make_canvas
from anon_runtime.diffusion.schedule import Schedule, load_schedule
from anon_runtime.diffusion.torch_rng import NormalStream
from anon_runtime.types import SAMPLERS, Canvas, Floats

from .command_line import one_line_errors

with one_line_errors(__name__, extras="cpu,export"):
    import torch
    from diffusers.schedulers.scheduling_dpmsolver_sde import BrownianTreeNoiseSampler

    from anon_export.build.builder import build
    from anon_export.build.options import BuildOptions
    from anon_export.build.reference import Diffusers, to_pixels
    from anon_export.comparison import psnr
    from anon_export.demo.generator import Architecture, write_generator
    from anon_export.models.loading import load_model
    from anon_export.tables import MAX_STEPS, make_scheduler, write_tables

    from .shared_networks import share_networks

# Models of several shapes: one has four levels, as Stable Diffusion has; two have latents that are not square.
ARCHITECTURES = {
    "square": Architecture(),
    "wide": Architecture(64, 96, (32, 64), (16, 32, 32), 32, seed=1),
    "tall": Architecture(88, 32, (32, 64, 64), (16, 32), 48, seed=2),
}
PROMPT = "closeup portrait photo of a white 33 woman, Attractive , Smiling , Wavy_Hair , Young , "
NEGATIVE = " Bald , Eyeglasses , Goatee , Gray_Hair , Mustache , Wearing_Hat , "

T = TypeVar("T")
Model = tuple[Anonymizer, Diffusers]  # the same model as a bundle and in diffusers
Row = tuple[str, str, bool]  # what was compared, the difference, and whether it is within its bound


class ImageSource(Protocol):
    """Generates images in 0..1 from requests, as `Diffusers` does."""

    def generate(self, requests: Sequence[Request], settings: Settings) -> Floats:
        """Images (n, height, width, 3)."""
        ...


def _progress(items: Sequence[T], name: str) -> Iterator[T]:
    return iter(tqdm(items, desc=name, leave=False))


def probe_tables(schedule: Schedule, scheduler: Any) -> int:
    """Count the table entries that differ from the coefficients of diffusers' scheduler.

    diffusers' scheduler takes each step with chosen samples, so that its result shows one coefficient at a time.
    """
    wrong = 0

    def compare(ours: ArrayLike, theirs: ArrayLike) -> None:
        nonlocal wrong
        wrong += not np.array_equal(np.asarray(ours, np.float64), np.asarray(theirs, np.float64))

    scheduler.set_timesteps(schedule.steps)
    compare(schedule.timesteps, scheduler.timesteps.numpy())
    compare(schedule.init_noise_sigma, float(scheduler.init_noise_sigma))
    queries: list[tuple[float, float]] = []
    one = torch.ones(1, 1)

    def record_query(start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        queries.append((start.item(), end.item()))
        return one

    for k, t in enumerate(scheduler.timesteps):
        compare(np.float32(1) / schedule.input_scales[k], scheduler.scale_model_input(one, t).item())
        if schedule.sampler == "dpmpp_sde":
            scheduler.noise_sampler = record_query
        # The predicted noise is 0, so the denoised sample is sample / alpha; the noise is 1, so the update is the sum
        # of the terms.
        after = _step(scheduler, torch.zeros(1, 1), t, one)
        compare(_update(schedule, k, np.float32(1), np.float32(1), np.float32(1) / schedule.alphas[k]), after)
    asked = ~np.isnan(schedule.query_from)
    if schedule.sampler == "dpmpp_sde":
        compare([q[0] for q in queries], schedule.query_from[asked])
        compare([q[1] for q in queries], schedule.query_to[asked])
        scales = [(torch.tensor(b) - torch.tensor(a)).abs().sqrt().item() for a, b in queries]
        compare(scales, schedule.query_scales[asked])
    return wrong


def _step(scheduler: Any, output: torch.Tensor, t: torch.Tensor, sample: torch.Tensor) -> float:
    keywords = {} if hasattr(scheduler, "noise_sampler") else {"variance_noise": torch.ones(1, 1)}
    return float(scheduler.step(output, t, sample, return_dict=False, **keywords)[0].item())


def _update(s: Schedule, k: int, sample: np.float32, noise: np.float32, denoised: np.float32) -> np.float32:
    """The runtime's update for scalars, where the previous prediction is 1 / its alpha."""
    if s.sampler == "dpmpp_sde":
        if k == s.evaluations - 1:
            return np.float32(sample + (sample - denoised) / s.sigmas[k] * -s.sigmas[k])
        return np.float32(s.sample_coefs[k] * sample + s.denoised_coefs[k] * denoised + noise * s.noise_coefs[k])
    x = s.sample_coefs[k] * sample + s.denoised_coefs[k] * denoised
    if s.correction_coefs[k]:
        previous = np.float32(1) / s.alphas[k - 1]
        x = x + s.correction_coefs[k] * (s.correction_scales[k] * (denoised - previous))
    return np.float32(x + s.noise_coefs[k] * noise)


def count_wrong_entries(path: Path, config: Mapping[str, Any]) -> int:
    """Table entries that differ from diffusers, for both samplers and all numbers of steps."""
    jobs = list(itertools.product(SAMPLERS, range(1, MAX_STEPS + 1)))
    return sum(probe_tables(load_schedule(path, s, n), make_scheduler(config, s)) for s, n in _progress(jobs, "tables"))


def brownian_noise(schedule: Schedule, seed: int, size: int) -> Floats:
    """torchsde's noise for every query of a schedule, through diffusers' sampler: (queries, size)."""
    sampler = BrownianTreeNoiseSampler(torch.zeros(size), float(schedule.sigmas[-1]), float(schedule.sigmas[0]), seed)
    asked = ~np.isnan(schedule.query_from)
    pairs = zip(schedule.query_from[asked], schedule.query_to[asked], strict=True)
    # The scheduler passes float32 tensors.
    ends = [tuple(torch.tensor(t, dtype=torch.float32) for t in pair) for pair in pairs]
    return np.array([sampler(*pair).numpy() for pair in ends], np.float32).reshape(-1, size)


def torch_normals(seeds: Sequence[int], size: int) -> Iterator[Floats]:
    """`torch_rng.seeded_normals` by torch itself, to compare the tree without the rounding of log and cos."""
    for seed in seeds:
        yield torch.randn(size, generator=torch.Generator().manual_seed(int(seed))).numpy()


def tree(schedule: Schedule, seed: int, size: int) -> float:
    """Largest difference between the runtime's tree, drawn from torch's normal numbers, and torchsde's."""
    with mock.patch.object(brownian, "seeded_normals", torch_normals):
        ours = brownian.sample_tree(brownian.build_tree(schedule), seed, size)
    return float(np.abs(ours - brownian_noise(schedule, seed, size)).max(initial=0))


def normals(seed: int, size: int) -> tuple[float, float, float]:
    """Differences from ``torch.randn``: the largest in units in the last place, the largest, and the equal share."""
    ours = NormalStream(seed).draw(size)
    theirs = torch.randn(size, generator=torch.Generator().manual_seed(seed)).numpy()
    ulp = np.abs(ours.view(np.int32).astype(np.int64) - theirs.view(np.int32))
    return float(ulp.max()), float(np.abs(ours - theirs).max()), float((ulp == 0).mean())


def make_example(anonymizer: Anonymizer) -> Canvas:
    """A made-up picture whose middle is painted anew, in the size of a bundle's images."""
    spec = anonymizer.engines.bundle.manifest.generator
    noise = np.random.default_rng(0).integers(0, 256, (spec.height // 8, spec.width // 8, 3), np.uint8)
    picture = np.asarray(Image.fromarray(noise).resize((spec.width, spec.height), Image.Resampling.BICUBIC))
    rows, columns = np.ogrid[-1 : 1 : spec.height * 1j, -1 : 1 : spec.width * 1j]
    return make_canvas(picture, rows**2 + columns**2 < 0.4, spec.vae_scale_factor)


def loop(
    anonymizer: Anonymizer, reference: Diffusers, settings: Settings, batch: int, canvas: Canvas | None = None
) -> float:
    """Largest difference of the final latents, relative to their RMS.

    Args:
        anonymizer: uses the networks of ``reference``; see `shared_networks.share_networks`.
        reference: diffusers.
        settings: of both.
        batch: number of images.
        canvas: to paint on; None for whole images.
    """
    requests = [Request(PROMPT, NEGATIVE, 100 + k, canvas) for k in range(batch)]
    *_, ours = (state.latents for state in anonymizer.using(settings).generator.denoise(requests))
    theirs = reference.generate(requests, settings, latents=True)
    return float(np.abs(ours - theirs).max() / np.sqrt(np.mean(theirs**2)))


def image(
    anonymizer: Anonymizer, reference: ImageSource, settings: Settings, seed: int, canvas: Canvas | None = None
) -> float:
    """PSNR of an image by the engines relative to the image by diffusers, in dB."""
    request = Request(PROMPT, NEGATIVE, seed, canvas)
    theirs = to_pixels(reference.generate([request], settings))[0]
    return psnr(np.asarray(anonymizer.using(settings).generate([request])[0].image), theirs)


def image_in_batch(anonymizer: Anonymizer, settings: Settings, size: int) -> float:
    """Lowest PSNR of an image of a batch relative to the same image alone, in dB."""
    # The prompts have one to three windows of text.
    requests = [Request(PROMPT + "Bangs , " * 8 * k, NEGATIVE, seed=k) for k in range(size)]
    together = anonymizer.using(settings).generate(requests)
    alone = [anonymizer.using(settings).generate([request])[0] for request in requests]
    return min(psnr(np.asarray(a.image), np.asarray(b.image)) for a, b in zip(together, alone, strict=True))


def random_seeds(count: int, bits: int = 63) -> list[int]:
    """Uniform seeds of so many bits, the same ones every time."""
    return [int(seed) for seed in np.random.default_rng(0).integers(0, 1 << bits, count, dtype=np.uint64)]


def low_level_rows(model: Model) -> list[Row]:
    """Compare tables, Brownian tree and normal numbers."""
    anonymizer, reference = model
    path = anonymizer.engines.bundle.path / anonymizer.engines.bundle.manifest.tables.path
    config = reference.pipeline.scheduler.config
    wrong = count_wrong_entries(path, config)
    schedules = [load_schedule(path, "dpmpp_sde", steps) for steps in (2, 7, 15, 50)]
    linspace = Path(path).with_name("linspace.npz")
    write_tables(config, linspace, "linspace")
    schedules.append(load_schedule(linspace, "dpmpp_sde", 15))
    linspace.unlink()
    jobs = list(zip(random_seeds(200), itertools.cycle(schedules), strict=False))
    branches = max(tree(schedule, seed, 64) for seed, schedule in _progress(jobs, "trees"))
    sizes = [1, 2, 15, 16, 17, 31, 100, 1000, 4097, 65536] + [65536] * 15
    found = [
        normals(seed, size) for seed, size in _progress(list(zip(random_seeds(25), sizes, strict=True)), "normals")
    ]
    ulp, absolute = max(f[0] for f in found), max(f[1] for f in found)
    equal = np.average([f[2] for f in found], weights=sizes)
    count = sum(sizes)
    return [
        (f"tables, both samplers, 1-{MAX_STEPS} steps: entries that differ from diffusers (0)", str(wrong), wrong == 0),
        ("Brownian tree, 200 seeds, 5 schedules, largest difference from torchsde (0)", f"{branches:g}", branches == 0),
        (f"normal numbers, {count:,} values: ulp from torch (3)", f"{ulp:g}", ulp <= 3),
        ("normal numbers: largest absolute difference (4.8e-7)", f"{absolute:.2g}", absolute <= 4.8e-7),
        ("normal numbers: share that is bit-equal (100 %)", f"{equal:.2%}", equal == 1),
    ]


def loop_rows(models: Mapping[str, Model]) -> list[Row]:
    """Compare the sampling loops with shared networks."""
    rows = []
    reference = models["wide"][1]
    shared = share_networks(models["wide"][0].engines.bundle, reference)
    # torch's exp, which gives the deviation of a picture's latents, has another last digit for one number of a hundred.
    kinds = (("loop", None, 1e-5), ("inpainting loop", make_example(shared), 1e-4))
    for (kind, canvas, bound), sampler in itertools.product(kinds, SAMPLERS):
        jobs = list(itertools.product((1, 2, 3, 15, 30), (1.0, 7.5), (1, 4)))
        worst = max(
            loop(shared, reference, Settings(steps=steps, guidance_scale=scale, sampler=sampler), batch, canvas)
            for steps, scale, batch in _progress(jobs, f"{kind} {sampler}")
        )
        what = f"{kind}, {sampler}, steps 1-30, guidance 1 and 7.5, batch 1 and 4: difference / RMS ({bound:.0e})"
        rows.append((what, f"{worst:.1e}", worst <= bound))
    return rows


def image_rows(models: Mapping[str, Model], count: int) -> list[Row]:
    """Compare whole images."""
    rows = []
    for (name, (anonymizer, reference)), sampler, kind in itertools.product(
        models.items(), SAMPLERS, ("images", "inpainted images")
    ):
        settings, canvas = Settings(sampler=sampler), None if kind == "images" else make_example(anonymizer)
        seeds = _progress(random_seeds(count), f"{kind} {name} {sampler}")
        found = [image(anonymizer, reference, settings, seed, canvas) for seed in seeds]
        shape = "x".join(map(str, anonymizer.engines.bundle.manifest.generator.latent_shape))
        what = f"{kind}, {sampler}, model {name} (latents {shape}), {count} seeds: worst PSNR (60 dB)"
        rows.append((what, f"{min(found):.1f} dB", min(found) >= 60))
    for name, (anonymizer, _) in models.items():
        worst = image_in_batch(anonymizer, Settings(), 8)
        what = f"image of a batch of 8 relative to the same alone, {name}: worst PSNR (60 dB)"
        rows.append((what, f"{worst:.1f} dB", worst >= 60))
    return rows


def main() -> None:
    """Measure everything and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="images per model and sampler; default: %(default)s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models: dict[str, Model] = {}
        for name, architecture in _progress(list(ARCHITECTURES.items()), "building models"):
            write_generator(Path(folder) / name, architecture)
            bundle = build(BuildOptions(str(Path(folder) / name), name, Path(folder) / "engines", "none"))
            models[name] = Anonymizer.of(Engines(bundle)), Diffusers(load_model(Path(folder) / name))
        rows = [*low_level_rows(models["square"]), *loop_rows(models), *image_rows(models, options.seeds)]
    for what, difference, fine in rows:
        print(f"| {what} | {difference} | {'ok' if fine else 'OUTSIDE ITS BOUND'} |")
    sys.exit(0 if all(fine for _, _, fine in rows) else 1)


if __name__ == "__main__":
    with one_line_errors(__name__, extras="cpu,export"):
        main()
