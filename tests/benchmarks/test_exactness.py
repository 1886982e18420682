"""The comparisons of `benchmarks.exactness` with torch, torchsde and diffusers, and checks that each can fail."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from anon_export.build.builder import build
from anon_export.build.options import BuildOptions
from anon_export.build.reference import Diffusers, to_pixels
from anon_export.comparison import psnr
from anon_export.demo.generator import write_generator
from anon_export.models.loading import load_model
from anon_export.tables import make_scheduler
from anon_runtime import Anonymizer, Request, Settings
from anon_runtime.backends.engines import Engines
from anon_runtime.cli import main
from anon_runtime.diffusion import brownian
from anon_runtime.diffusion.brownian import NoiseSpec
from anon_runtime.diffusion.inpainting import Known
from anon_runtime.diffusion.schedule import Schedule, load_schedule
from anon_runtime.diffusion.torch_rng import NormalStream, interleave, seeded_normals
from anon_runtime.types import Floats, Sampler
from benchmarks import exactness
from benchmarks.shared_networks import share_networks

# torchsde warns where a query lies beyond the ends of the path.
pytestmark = pytest.mark.filterwarnings("ignore:Should have t:UserWarning:torchsde")

SD15 = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
}
samplers = pytest.mark.parametrize("sampler", ["dpmpp_sde", "dpmpp_2m_sde"])
# On a processor without AVX2, torch takes logarithm, sine and cosine from the C library and multiplies the angle by
# 2 pi in double precision. The runtime computes the same polynomials on every processor. Angles up to 2 pi are rounded
# to steps of 8 * 2**-24, once by torch and twice by the runtime; with the functions' own errors, that is 16 * 2**-24
# at most. A normal number is a sine or cosine times a radius of at most sqrt(-2 log 2**-24) < 6.
SAME_FUNCTIONS = torch.backends.cpu.get_cpu_capability() != "DEFAULT"
ROUNDING = 0 if SAME_FUNCTIONS else 6 * 16 * 2.0**-24


@pytest.fixture(scope="session")
def table_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Baked tables for each timestep spacing."""
    from anon_export.tables import write_tables

    folder = tmp_path_factory.mktemp("tables")
    spacings = ("linspace", "leading", "trailing")
    for spacing in spacings:
        assert write_tables(SD15, folder / f"{spacing}.npz", spacing) == spacing
    return {spacing: folder / f"{spacing}.npz" for spacing in spacings}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> tuple[Anonymizer, Diffusers]:
    """A model with non-square latents: its engines and its diffusers pipeline."""
    folder = tmp_path_factory.mktemp("wide")
    write_generator(folder / "model", exactness.ARCHITECTURES["wide"])
    bundle = build(BuildOptions(str(folder / "model"), "wide", folder / "engines", "none"))
    return Anonymizer.of(Engines(bundle)), Diffusers(load_model(folder / "model"))


@samplers
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
def test_tables_are_bit_equal(table_files: dict[str, Path], sampler: Sampler, spacing: str) -> None:
    for steps in range(1, 51):
        schedule = load_schedule(table_files[spacing], sampler, steps)
        assert exactness.probe_tables(schedule, make_scheduler(SD15, sampler, spacing)) == 0, steps


def test_sigmas_are_the_published_ones(table_files: dict[str, Path]) -> None:
    """Karras sigmas of Stable Diffusion 1.5 for 15 steps, as diffusers 0.42 prints them."""
    linspace = load_schedule(table_files["linspace"], "dpmpp_sde", 15)
    expected = [14.6146, 10.8198, 7.9029, 5.6878, 4.0277, 2.8016, 1.9104, 1.2741, 0.8289, 0.5243, 0.3211, 0.1896,
                0.1072, 0.0576, 0.0292]  # fmt: skip
    np.testing.assert_allclose(linspace.sigmas[::2], expected, atol=5e-5)
    assert linspace.evaluations == 29
    leading = load_schedule(table_files["leading"], "dpmpp_sde", 15)
    np.testing.assert_allclose([leading.sigmas[0], leading.sigmas[-1]], [9.54, 0.0413], atol=5e-3)


FIELDS: dict[Sampler, list[str]] = {
    "dpmpp_sde": [
        "timesteps",
        "input_scales",
        "sample_coefs",
        "denoised_coefs",
        "noise_coefs",
        "query_from",
        "query_to",
        "query_scales",
        "init_noise_sigma",
    ],
    "dpmpp_2m_sde": [
        "timesteps",
        "alphas",
        "sample_coefs",
        "denoised_coefs",
        "noise_coefs",
        "correction_coefs",
        "correction_scales",
    ],
}


@pytest.mark.parametrize(("sampler", "field"), [(s, f) for s, names in FIELDS.items() for f in names])
def test_one_wrong_table_entry_is_noticed(table_files: dict[str, Path], sampler: Sampler, field: str) -> None:
    schedule = load_schedule(table_files["linspace"], sampler, 15)
    wrong = np.array(getattr(schedule, field))
    # One entry in the middle changes by a few roundings, so that the sum that is compared changes as well.
    where = () if wrong.ndim == 0 else 6
    wrong[where] = wrong[where] * (1 + 2e-6)
    changes: dict[str, Any] = {field: wrong if wrong.ndim else wrong[()]}
    changed = replace(schedule, **changes)
    assert exactness.probe_tables(changed, make_scheduler(SD15, sampler, "linspace")) > 0


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**64 - 1),
    steps=st.integers(1, 50),
    size=st.integers(1, 80),
    spacing=st.sampled_from(["linspace", "leading"]),
)
def test_brownian_tree_is_bit_equal(
    table_files: dict[str, Path], seed: int, steps: int, size: int, spacing: str
) -> None:
    assert exactness.tree(load_schedule(table_files[spacing], "dpmpp_sde", steps), seed, size) == 0


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**64 - 1), steps=st.integers(2, 20), size=st.integers(1, 80))
def test_all_noise_is_bit_equal(table_files: dict[str, Path], seed: int, steps: int, size: int) -> None:
    """The tree, drawn from the runtime's own normal numbers."""
    schedule = load_schedule(table_files["linspace"], "dpmpp_sde", steps)
    ours = brownian.sample_tree(brownian.build_tree(schedule), seed, size)
    # A query is a weighted sum of a few dozen numbers; the squares of the weights add up to 1.
    np.testing.assert_allclose(ours, exactness.brownian_noise(schedule, seed, size), rtol=0, atol=8 * ROUNDING)


def test_one_wrong_node_is_noticed(table_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = load_schedule(table_files["linspace"], "dpmpp_sde", 15)
    tree = brownian.build_tree(schedule)
    keys = tree.keys.copy()
    keys[len(keys) // 2, 0] ^= 1
    monkeypatch.setattr(brownian, "build_tree", lambda _: replace(tree, keys=keys))
    assert exactness.tree(schedule, 5, 32) > 1e-3


def test_one_wrong_seed_is_noticed(table_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    right = brownian.cut_seeds

    def wrong(seed: int, keys: NDArray[np.uint32]) -> NDArray[np.uint32]:
        seeds = right(seed, keys)
        seeds[3] += 1
        return seeds

    monkeypatch.setattr(brownian, "cut_seeds", wrong)
    assert exactness.tree(load_schedule(table_files["linspace"], "dpmpp_sde", 15), 5, 32) > 1e-3


@settings(deadline=None)
@given(seed=st.integers(0, 2**64 - 1), depth=st.integers(0, 24), data=st.data())
def test_cut_seeds_are_numpys(seed: int, depth: int, data: st.DataObject) -> None:
    key = data.draw(st.integers(0, 2**depth - 1)), depth
    expected = np.random.SeedSequence(seed, spawn_key=key, pool_size=24).generate_state(4)[0]
    assert brownian.cut_seeds(seed, np.array([key], np.uint32))[0] == expected


@settings(deadline=None)
@given(seed=st.integers(0, 2**64 - 1), size=st.one_of(st.integers(1, 100), st.integers(100, 65536)))
def test_normal_numbers_are_bit_equal(seed: int, size: int) -> None:
    _, difference, _ = exactness.normals(seed, size)
    assert difference <= ROUNDING


def test_a_million_normal_numbers_are_bit_equal() -> None:
    found = [exactness.normals(seed, 65536) for seed in exactness.random_seeds(16)]
    assert all(difference <= ROUNDING for _, difference, _ in found)
    assert not SAME_FUNCTIONS or all(same == 1 for _, _, same in found), "zeros have the same sign"


def test_another_seed_gives_other_numbers() -> None:
    ours, other = brownian.draw_initial(7, (4, 8, 8)), brownian.draw_initial(8, (4, 8, 8))
    assert (ours != other).mean() > 0.99


@settings(deadline=None, max_examples=20)
@given(seeds=st.lists(st.integers(0, 2**63), min_size=1, max_size=9), size=st.integers(1, 70))
def test_many_seeds_at_once_are_each_seed_alone(seeds: list[int], size: int) -> None:
    together = [v if v.ndim == 1 else interleave(v.copy()) for v in seeded_normals(seeds, size)]
    for values, seed in zip(together, seeds, strict=True):
        np.testing.assert_array_equal(values, NormalStream(seed).draw(size))


class TorchStream:
    """`torch_rng.NormalStream` by torch itself."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def draw(self, size: int) -> Floats:
        values: Floats = torch.randn(size, generator=self._generator).numpy()
        return values


def cheap_text_encoder(input_ids: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor]:
    """Gives the same for a prompt alone and in a batch, where a network would round differently."""
    return ((input_ids % 97 / 97)[..., None],)


def cheap_unet(
    sample: torch.Tensor, timestep: Any, encoder_hidden_states: torch.Tensor, **_: Any
) -> tuple[torch.Tensor]:
    """Depends on all inputs of a UNet and takes no time: only the loops are compared."""
    text = encoder_hidden_states[..., 0].mean(1).reshape(-1, 1, 1, 1)
    return (torch.sin(sample + 30 * text + torch.as_tensor(timestep, dtype=torch.float32) / 100),)


@samplers
@pytest.mark.parametrize("steps", [1, 2, 3, 15, 30])
@pytest.mark.parametrize("guidance_scale", [1.0, 7.5])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("inpainting", [False, True])
def test_the_loop_follows_diffusers(
    wide: tuple[Anonymizer, Diffusers],
    sampler: Sampler,
    steps: int,
    guidance_scale: float,
    batch: int,
    inpainting: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the same networks and torch's normal numbers on both sides."""
    monkeypatch.setattr(wide[1].pipeline.unet, "forward", cheap_unet)
    monkeypatch.setattr(wide[1].pipeline.text_encoder, "forward", cheap_text_encoder)
    monkeypatch.setattr(brownian, "NormalStream", TorchStream)
    monkeypatch.setattr(brownian, "seeded_normals", exactness.torch_normals)
    shared = share_networks(wide[0].engines.bundle, wide[1])
    choices = Settings(sampler=sampler, steps=steps, guidance_scale=guidance_scale)
    canvas = exactness.make_example(shared) if inpainting else None
    assert exactness.loop(shared, wide[1], choices, batch, canvas) <= 1e-5


@samplers
def test_the_loop_check_notices_another_seed(
    wide: tuple[Anonymizer, Diffusers], sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = share_networks(wide[0].engines.bundle, wide[1])
    draw = brownian.draw_noise

    def wrong(spec: NoiseSpec, seed: int, shape: Sequence[int], before: int = 1) -> Floats:
        return draw(spec, seed + 1, shape)

    monkeypatch.setattr(wide[1].pipeline.unet, "forward", cheap_unet)
    monkeypatch.setattr("anon_runtime.diffusion.generator.draw_noise", wrong)
    assert exactness.loop(shared, wide[1], Settings(sampler=sampler, steps=3), 1) > 1e-2


@samplers
@pytest.mark.parametrize("inpainting", [False, True])
@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
def test_images_are_diffusers_images(
    wide: tuple[Anonymizer, Diffusers], sampler: Sampler, seed: int, inpainting: bool
) -> None:
    canvas = exactness.make_example(wide[0]) if inpainting else None
    assert exactness.image(*wide, Settings(sampler=sampler), seed, canvas) >= 60


@samplers
@pytest.mark.parametrize("level", [0, 1])
def test_the_image_check_notices_another_level_of_what_stays(
    wide: tuple[Anonymizer, Diffusers], sampler: Sampler, level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The picture without noise, or with that of the evaluation before."""

    def wrong(self: Known, schedule: Schedule, k: int, x: Floats) -> Floats:
        known = self.latents + level * schedule.sigmas[k] * self.noise
        blended: Floats = (1 - self.masks) * known + self.masks * x
        return blended

    monkeypatch.setattr(Known, "blend", wrong)
    canvas = exactness.make_example(wide[0])
    assert exactness.image(*wide, Settings(sampler=sampler, steps=5), 7, canvas) < 50


def test_an_image_does_not_depend_on_its_batch(wide: tuple[Anonymizer, Diffusers]) -> None:
    assert exactness.image_in_batch(wide[0], Settings(steps=5), 8) >= 60


def test_the_image_check_notices_another_seed(wide: tuple[Anonymizer, Diffusers]) -> None:
    class Shifted:
        def generate(self, requests: Sequence[Request], settings: Settings) -> Floats:
            images: Floats = wide[1].generate([replace(r, seed=r.seed + 1) for r in requests], settings)
            return images

    assert exactness.image(wide[0], Shifted(), Settings(steps=3), 7) < 40


def test_anon_run_makes_diffusers_image(wide: tuple[Anonymizer, Diffusers], tmp_path: Path) -> None:
    """The whole command, with a prompt of more than 77 tokens that is truncated as diffusers truncates it."""
    prompt, negative, engines = exactness.PROMPT * 4, exactness.NEGATIVE * 5, wide[0].engines.bundle.path
    command = f"--seed 11 --steps 4 --guidance-scale 5 --prompt-truncate --engines {engines} -o {tmp_path}/o.png"
    with pytest.raises(SystemExit) as caught:
        main(["--prompt", prompt, "--negative-prompt", negative, *command.split()])
    assert caught.value.code == 0
    theirs = wide[1].generate([Request(prompt, negative, 11)], Settings(steps=4, guidance_scale=5))
    with Image.open(tmp_path / "o.png") as ours:
        assert psnr(np.asarray(ours), to_pixels(theirs)[0]) >= 60


def test_no_state_is_left_between_images(wide: tuple[Anonymizer, Diffusers]) -> None:
    request, choices = [Request("a", "b", 3)], Settings(steps=3)
    first = np.asarray(wide[0].using(choices).generate(request)[0].image)
    wide[0].using(Settings(steps=5, sampler="dpmpp_2m_sde")).generate([Request("c", "d", 4)])
    np.testing.assert_array_equal(first, np.asarray(wide[0].using(choices).generate(request)[0].image))


def test_one_step_needs_no_tree(table_files: dict[str, Path]) -> None:
    spec = brownian.specify_noise(load_schedule(table_files["linspace"], "dpmpp_sde", 1))
    assert brownian.draw_noise(spec, 3, (4, 2, 2)).shape == (0, 4, 2, 2)
