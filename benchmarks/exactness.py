"""How exactly the runtime follows diffusers: every figure beside its bound.

    python -m benchmarks.exactness [--seeds 20]

Builds a few models with random weights (a minute each), and compares tables, random numbers, the Brownian tree, the
loop and whole images with diffusers, torch and torchsde. Exits with 1 if a figure is outside its bound.
"""

import argparse
import itertools
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.schedulers.scheduling_dpmsolver_sde import BrownianTreeNoiseSampler
from numpy.typing import NDArray
from tqdm import tqdm

from anon_export.build.builder import build
from anon_export.build.options import BuildOptions
from anon_export.build.reference import Diffusers, to_pixels
from anon_export.build.verify import psnr
from anon_export.demo.generator import Architecture, write_generator
from anon_export.models.loading import load_model
from anon_export.tables import MAX_STEPS, make_scheduler
from anon_runtime import Anonymizer, Request, Settings
from anon_runtime.diffusion import brownian
from anon_runtime.diffusion.schedule import SAMPLERS, Schedule, load_schedule
from anon_runtime.diffusion.torch_rng import NormalStream

from .shared_networks import share_networks

# Models of several shapes: four levels, as Stable Diffusion has, and two with non-square latents.
ARCHITECTURES = {
    "square": Architecture(),
    "wide": Architecture(64, 96, (32, 64), (16, 32, 32), 32, seed=1),
    "tall": Architecture(88, 32, (32, 64, 64), (16, 32), 48, seed=2),
}
PROMPT = "closeup portrait photo of a white 33 woman, Attractive , Smiling , Wavy_Hair , Young , "
NEGATIVE = " Bald , Eyeglasses , Goatee , Gray_Hair , Mustache , Wearing_Hat , "

Progress = Callable[[Sequence[Any], str], Iterator[Any]]


def _plain(items: Sequence[Any], _name: str) -> Iterator[Any]:
    return iter(items)


def probe_tables(schedule: Schedule, scheduler: Any) -> int:
    """Count the table entries that differ from what diffusers' scheduler does, as a schedule is stepped through.

    Each step is probed with samples for which diffusers' arithmetic shows one coefficient at a time.
    """
    wrong = 0

    def differ(ours: Any, theirs: Any) -> None:
        nonlocal wrong
        wrong += not np.array_equal(np.float64(ours), np.float64(theirs))

    scheduler.set_timesteps(schedule.steps)
    differ(schedule.timesteps, scheduler.timesteps.numpy())
    differ(schedule.init_noise_sigma, float(scheduler.init_noise_sigma))
    queries: list[tuple[float, float]] = []
    one = torch.ones(1, 1)
    for k, t in enumerate(scheduler.timesteps):
        differ(np.float32(1) / schedule.input_scales[k], scheduler.scale_model_input(one, t).item())
        if schedule.sampler == "dpmpp_sde":
            scheduler.noise_sampler = lambda start, end: queries.append((start.item(), end.item())) or torch.ones(1, 1)
        # With no predicted noise, denoised is the sample / alpha; with noise 1, the update is the sum of the parts.
        after = _step(scheduler, torch.zeros(1, 1), t, one)
        differ(_update(schedule, k, np.float32(1), np.float32(1), np.float32(1) / schedule.alphas[k]), after)
    asked = ~np.isnan(schedule.query_from)
    if schedule.sampler == "dpmpp_sde":
        differ([q[0] for q in queries], schedule.query_from[asked])
        differ([q[1] for q in queries], schedule.query_to[asked])
        scales = [(torch.tensor(b) - torch.tensor(a)).abs().sqrt().item() for a, b in queries]
        differ(scales, schedule.query_scales[asked])
    return wrong


def _step(scheduler: Any, output: torch.Tensor, t: Any, sample: torch.Tensor) -> float:
    keywords = {} if hasattr(scheduler, "noise_sampler") else {"variance_noise": torch.ones(1, 1)}
    return float(scheduler.step(output, t, sample, return_dict=False, **keywords)[0].item())


def _update(s: Schedule, k: int, sample: np.float32, noise: np.float32, denoised: np.float32) -> np.float32:
    """The runtime's update for scalars, where the previous prediction was 1 / its alpha."""
    if s.sampler == "dpmpp_sde":
        if k == s.evaluations - 1:
            return sample + (sample - denoised) / s.sigmas[k] * -s.sigmas[k]
        return s.sample_coefs[k] * sample + s.denoised_coefs[k] * denoised + noise * s.noise_coefs[k]
    x = s.sample_coefs[k] * sample + s.denoised_coefs[k] * denoised
    if s.correction_coefs[k]:
        previous = np.float32(1) / s.alphas[k - 1]
        x = x + s.correction_coefs[k] * (s.correction_scales[k] * (denoised - previous))
    return x + s.noise_coefs[k] * noise


def tables(path: Path, config: Any, progress: Progress = _plain) -> int:
    """Entries that differ from diffusers, over both samplers and all numbers of steps."""
    jobs = list(itertools.product(SAMPLERS, range(1, MAX_STEPS + 1)))
    return sum(probe_tables(load_schedule(path, s, n), make_scheduler(config, s)) for s, n in progress(jobs, "tables"))


def brownian_noise(schedule: Schedule, seed: int, size: int) -> NDArray[np.float32]:
    """torchsde's noise for every query of a schedule, through diffusers' sampler: (queries, size)."""
    sampler = BrownianTreeNoiseSampler(torch.zeros(size), float(schedule.sigmas[-1]), float(schedule.sigmas[0]), seed)
    asked = ~np.isnan(schedule.query_from)
    pairs = zip(schedule.query_from[asked], schedule.query_to[asked], strict=True)
    # float32 tensors, as the scheduler passes them.
    ends = [tuple(torch.tensor(t, dtype=torch.float32) for t in pair) for pair in pairs]
    return np.array([sampler(*pair).numpy() for pair in ends], np.float32).reshape(-1, size)


def torch_normals(seeds: Sequence[int], size: int) -> Iterator[NDArray[np.float32]]:
    """`noise.seeded_normals` from torch itself: isolates the tree from the last digits of log and cos."""
    for seed in seeds:
        yield torch.randn(size, generator=torch.Generator().manual_seed(int(seed))).numpy()


def tree(schedule: Schedule, seed: int, size: int) -> float:
    """Largest difference between our tree, fed with torch's normal numbers, and torchsde's."""
    own, brownian.seeded_normals = brownian.seeded_normals, torch_normals
    try:
        ours = brownian.draw_tree(brownian.plan_tree(schedule), seed, size)
    finally:
        brownian.seeded_normals = own
    return float(np.abs(ours - brownian_noise(schedule, seed, size)).max(initial=0))


def normals(seed: int, size: int) -> tuple[float, float, float]:
    """Largest difference from ``torch.randn`` in units in the last place and absolute, and the share of equal bits."""
    ours = NormalStream(seed).draw(size)
    theirs = torch.randn(size, generator=torch.Generator().manual_seed(seed)).numpy()
    ulp = np.abs(ours.view(np.int32).astype(np.int64) - theirs.view(np.int32))
    return float(ulp.max()), float(np.abs(ours - theirs).max()), float((ulp == 0).mean())


def loop(anonymizer: Anonymizer, reference: Diffusers, settings: Settings, batch: int) -> float:
    """Largest difference of final latents relative to their RMS; networks shared (see `shared_networks.share_networks`)."""
    requests = [Request(PROMPT, NEGATIVE, seed=100 + k) for k in range(batch)]
    *_, state = anonymizer.denoising(requests, settings)
    theirs = reference.generate(requests, settings, latents=True)
    return float(np.abs(state.latents - theirs).max() / np.sqrt(np.mean(theirs**2)))


def image(anonymizer: Anonymizer, reference: Diffusers, settings: Settings, seed: int) -> float:
    """PSNR of an image generated by the engines against diffusers."""
    request = Request(PROMPT, NEGATIVE, seed)
    theirs = to_pixels(reference.generate([request], settings))[0]
    return psnr(np.asarray(anonymizer.generate([request], settings)[0].image), theirs)


def batch_of(anonymizer: Anonymizer, settings: Settings, size: int) -> float:
    """Lowest PSNR of an image of a batch against the same image alone."""
    # Prompts of one to three windows of text.
    requests = [Request(PROMPT + "Bangs , " * 8 * k, NEGATIVE, seed=k) for k in range(size)]
    together = anonymizer.generate(requests, settings)
    alone = [anonymizer.generate([request], settings)[0] for request in requests]
    return min(psnr(np.asarray(a.image), np.asarray(b.image)) for a, b in zip(together, alone, strict=True))


def random_seeds(count: int, bits: int = 63) -> list[int]:
    """Seeds from all over the range, the same ones every time."""
    return [int(seed) for seed in np.random.default_rng(0).integers(0, 1 << bits, count, dtype=np.uint64)]


def main() -> None:
    """Measure everything and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="images a model and sampler")
    options = parser.parse_args()

    def progress(items: Sequence[Any], name: str) -> Iterator[Any]:
        return iter(tqdm(items, desc=name, leave=False))

    rows: list[tuple[str, str, bool]] = []
    with tempfile.TemporaryDirectory() as folder:
        models = {}
        for name, architecture in progress(list(ARCHITECTURES.items()), "building models"):
            write_generator(Path(folder) / name, architecture)
            bundle = build(BuildOptions(str(Path(folder) / name), name, Path(folder) / "engines", "none"))
            models[name] = Anonymizer(bundle), Diffusers(load_model(Path(folder) / name))
        rows += low_level_rows(models["square"], progress)
        rows += loop_rows(models, progress)
        rows += image_rows(models, options.seeds, progress)
    for what, figure, fine in rows:
        print(f"| {what} | {figure} | {'ok' if fine else 'OUTSIDE ITS BOUND'} |")
    sys.exit(0 if all(fine for _, _, fine in rows) else 1)


def low_level_rows(model: tuple[Anonymizer, Diffusers], progress: Progress) -> list[tuple[str, str, bool]]:
    """Tables, tree and normal numbers."""
    anonymizer, reference = model
    path = anonymizer.bundle.path / anonymizer.bundle.manifest.tables.path
    config = reference.pipeline.scheduler.config
    wrong = tables(path, config, progress)
    schedules = [load_schedule(path, "dpmpp_sde", steps) for steps in (2, 7, 15, 50)]
    linspace = Path(path).with_name("linspace.npz")
    from anon_export.tables import write_tables

    write_tables(config, linspace, "linspace")
    schedules.append(load_schedule(linspace, "dpmpp_sde", 15))
    linspace.unlink()
    jobs = list(zip(random_seeds(200), itertools.cycle(schedules), strict=False))
    branches = max(tree(schedule, seed, 64) for seed, schedule in progress(jobs, "trees"))
    sizes = [1, 2, 15, 16, 17, 31, 100, 1000, 4097, 65536] + [65536] * 15
    found = [normals(seed, size) for seed, size in progress(list(zip(random_seeds(25), sizes, strict=True)), "normals")]
    ulp, absolute = max(f[0] for f in found), max(f[1] for f in found)
    equal = np.average([f[2] for f in found], weights=sizes)
    count = sum(sizes)
    return [
        (f"tables, both samplers, 1-{MAX_STEPS} steps: entries that differ from diffusers (0)", str(wrong), wrong == 0),
        ("Brownian tree, 200 seeds, 5 schedules, largest difference from torchsde (0)", f"{branches:g}", branches == 0),
        (f"normal numbers, {count:,} values: ulp from torch (3)", f"{ulp:g}", ulp <= 3),
        ("the same, absolute (4.8e-7)", f"{absolute:.2g}", absolute <= 4.8e-7),
        ("the same, share that is bit-equal (100 %)", f"{equal:.2%}", equal == 1),
    ]


def loop_rows(models: dict[str, tuple[Anonymizer, Diffusers]], progress: Progress) -> list[tuple[str, str, bool]]:
    """The loop with shared networks."""
    rows = []
    reference = models["wide"][1]
    shared = share_networks(models["wide"][0].bundle, reference)
    for sampler in SAMPLERS:
        jobs = list(itertools.product((1, 2, 3, 15, 30), (1.0, 7.5), (1, 4)))
        worst = max(
            loop(shared, reference, Settings(steps=steps, guidance_scale=scale, sampler=sampler), batch)
            for steps, scale, batch in progress(jobs, f"loop {sampler}")
        )
        what = f"loop, {sampler}, steps 1-30, guidance 1 and 7.5, batch 1 and 4: difference / RMS (1e-5)"
        rows.append((what, f"{worst:.1e}", worst <= 1e-5))
    return rows


def image_rows(
    models: dict[str, tuple[Anonymizer, Diffusers]], count: int, progress: Progress
) -> list[tuple[str, str, bool]]:
    """Whole images."""
    rows = []
    for (name, (anonymizer, reference)), sampler in itertools.product(models.items(), SAMPLERS):
        settings = Settings(sampler=sampler)
        found = [image(anonymizer, reference, settings, s) for s in progress(random_seeds(count), f"{name} {sampler}")]
        shape = "x".join(map(str, anonymizer.bundle.manifest.generator.latent_shape))
        what = f"images, {sampler}, model {name} (latents {shape}), {count} seeds: worst PSNR (60 dB)"
        rows.append((what, f"{min(found):.1f} dB", min(found) >= 60))
    for name, (anonymizer, _) in models.items():
        worst = batch_of(anonymizer, Settings(), 8)
        what = f"image of a batch of 8 against the same alone, {name}: worst PSNR (60 dB)"
        rows.append((what, f"{worst:.1f} dB", worst >= 60))
    return rows


if __name__ == "__main__":
    main()
