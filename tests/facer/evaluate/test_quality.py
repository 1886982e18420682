"""FID and Visual DNA: the distances are compared with closed forms, the networks with the calls of the packages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.linalg import sqrtm

from anon_runtime.types import Pixels
from benchmarks.evaluate.cache import Cache
from benchmarks.evaluate.pairs import ImageFile, Method
from benchmarks.evaluate.quality import FEWEST, INCEPTIONS, CleanFid, TorchFidelity, VisualDna, measure_dna, measure_fid
from benchmarks.evaluate.requirements import MissingError
from benchmarks.evaluate.types import Vector

Doubles = NDArray[np.float64]


def gaussian(mean: Doubles, covariance: Doubles, n: int, seed: int) -> Doubles:
    """Random numbers (n, d) with exactly this mean (d,) and covariance (d, d)."""
    values = np.random.default_rng(seed).standard_normal((n, len(mean)))
    values -= values.mean(axis=0)
    white = values @ np.linalg.inv(np.linalg.cholesky(np.cov(values, rowvar=False))).T
    numbers: Doubles = white @ np.linalg.cholesky(covariance).T + mean
    return numbers


@pytest.mark.parametrize("name", list(INCEPTIONS))
def test_the_distance_of_two_gaussians_has_a_closed_form(inceptions: Path, name: str) -> None:
    """It is |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2); if C1 and C2 commute, only their eigenvalues matter."""
    network, rng = INCEPTIONS[name](), np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.standard_normal((12, 12)))
    spreads, means = rng.uniform(0.5, 3, (2, 12)), rng.standard_normal((2, 12))
    sets = [gaussian(means[i], turn @ np.diag(spreads[i] ** 2) @ turn.T, 200, i) for i in range(2)]
    expected = ((means[0] - means[1]) ** 2).sum() + ((spreads[0] - spreads[1]) ** 2).sum()
    assert network.distance(*sets) == pytest.approx(expected, rel=1e-6)
    assert network.distance(sets[0], sets[0]) == pytest.approx(0, abs=1e-5)
    random: list[Doubles] = [np.cov(rng.standard_normal((12, 40))) for _ in range(2)]
    sets = [gaussian(means[i], random[i], 200, 2 + i) for i in range(2)]
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(
        random[0] + random[1] - 2 * sqrtm(random[0] @ random[1]).real
    )
    assert network.distance(*sets) == pytest.approx(expected, rel=1e-6)


@pytest.fixture
def folder(tmp_path: Path, photos: list[Pixels]) -> Path:
    for i, photo in enumerate(photos[:3]):
        Image.fromarray(photo[:300, :280]).save(tmp_path / f"{i}.png")
    return tmp_path


def test_clean_fid_is_clean_fids(inceptions: Path, folder: Path) -> None:
    """The features of a folder are computed by the function that clean-fid's ``compute_fid`` calls."""
    from cleanfid.fid import get_folder_features
    from cleanfid.inception_torchscript import InceptionV3W

    network = InceptionV3W(str(inceptions), download=False).eval()
    theirs = get_folder_features(str(folder), network, num_workers=0, device=torch.device("cpu"), verbose=False)
    own = CleanFid()
    images = [ImageFile(str(i), folder / f"{i}.png") for i in range(3)]
    np.testing.assert_allclose([own.features(p.pixels()) for p in images], theirs, rtol=1e-4, atol=1e-5)


def test_torch_fidelity_is_torch_fidelitys(inceptions: Path, folder: Path) -> None:
    """The features of a folder are computed by the functions that ``calculate_metrics`` calls."""
    from torch_fidelity.utils import create_feature_extractor, extract_featuresdict_from_input_id

    weights = str(inceptions / "weights-inception-2015-12-05-6726825d.pth")
    quiet = {"cuda": False, "verbose": False, "save_cpu_ram": True, "batch_size": 1}
    network = create_feature_extractor(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=weights, cuda=False, verbose=False
    )
    theirs = extract_featuresdict_from_input_id(1, network, input1=str(folder), **quiet)["2048"].numpy()
    own = TorchFidelity()
    images = [ImageFile(str(i), folder / f"{i}.png") for i in range(3)]
    np.testing.assert_allclose([own.features(p.pixels()) for p in images], theirs, rtol=1e-4, atol=1e-5)
    assert theirs.std() > 0.01, "the features differ, so the comparison means something"


class FourPixels:
    """A network whose features are four pixels of the image."""

    name, version = "four pixels", "1"

    def features(self, image: Pixels) -> Vector:
        return image[:4, 0].astype(float).ravel()

    def distance(self, a: Vector, b: Vector) -> float:
        return float(np.abs(a.mean(axis=0) - b.mean(axis=0)).sum())


def test_fid_by_method_and_group(tmp_path: Path) -> None:
    rng, images = np.random.default_rng(0), []
    for i in range(FEWEST + 10):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(tmp_path / f"{i}.png")
        images.append(ImageFile(str(i), tmp_path / f"{i}.png"))
    same = Method("same", dict(enumerate(images)))
    other = Method("other", {i: images[-1 - i] for i in range(FEWEST)})
    many, few = np.arange(len(images)) < FEWEST, np.arange(len(images)) < FEWEST - 1
    with Cache(tmp_path / "cache.npz") as cache:
        found = measure_fid(FourPixels(), cache, images, [same, other], {"many": many, "few": few})
    assert found["same"]["all"] == {"value": 0, "of": FEWEST + 10}
    assert found["same"]["groups"]["few"] is None
    assert found["same"]["groups"]["many"]["value"] == 0 < found["other"]["groups"]["many"]["value"]


# Bound of the difference between activations (-1..1) of an image in a batch and alone: some hundred roundings of 2**-24
# in a row. A bin is 100 times as wide.
ROUNDING = 2e-5


def test_visual_dna_is_vdnas(mugs: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Visual DNA of a data set is the sum over its images, as the package's processor computes it.

    The processor computes both images in one batch, which rounds sums in another order, so that an activation beside
    the edge of a bin may fall on the other side. Moving all activations down and up by the rounding gives the most and
    the fewest activations below each edge.
    """
    import vdna
    from huggingface_hub import constants
    from vdna.networks import feature_extraction_model as package

    own = VisualDna()
    images = [ImageFile(str(i), folder / f"{i}.png") for i in range(2)]
    dnas = [own.describe(image.pixels()) for image in images]
    total = own.add(own.add(None, dnas[0]), dnas[1])
    moved: list[tuple[torch.Tensor, torch.Tensor]] = []
    count = package.histogram_per_channel

    def count_moved(activations: torch.Tensor, **bins: Any) -> torch.Tensor:
        down, up = (count(activations + by, **bins) for by in (-ROUNDING, ROUNDING))
        moved.append((down, up))
        counts: torch.Tensor = count(activations, **bins)
        return counts

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        patch.setattr(package, "histogram_per_channel", count_moved)
        theirs = vdna.VDNAProcessor().make_vdna(
            [str(image.path) for image in images], device="cpu", num_workers=0, verbose=False, n_sample_images=0
        )
    most, fewest = (own.add(None, theirs) for _ in range(2))
    most.data, fewest.data = (dict(zip(theirs.data, counts, strict=True)) for counts in zip(*moved, strict=True))
    for layer in theirs.data:
        high, ours, low = (dna.data[layer].cumsum(1) for dna in (most, total, fewest))
        assert ((low <= ours) & (ours <= high)).all(), layer
    rounding = own.distance(most, fewest)
    assert own.distance(total, theirs) <= rounding < 0.1 * own.distance(dnas[0], dnas[1])
    known = {image.pixels().tobytes(): dna for image, dna in zip(images, dnas, strict=True)}
    monkeypatch.setattr(own, "describe", lambda pixels: known[pixels.tobytes()])
    crossed = Method("crossed", {0: images[1], 1: images[0]})
    found = measure_dna(own, images, [crossed], {"one": np.array([True, False])})
    assert found["crossed"]["groups"]["one"] is None
    assert found["crossed"]["all"]["of"] == 2
    assert found["crossed"]["all"]["data set"] == 0, "the sets have the same images"
    assert found["crossed"]["all"]["image"] == pytest.approx(own.distance(dnas[0], dnas[1])), (
        "wrong pairs have a distance"
    )


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    networks: dict[str, Callable[[], object]] = {
        "inception-2015-12-05.pt": CleanFid,
        "weights-inception-2015-12-05-6726825d.pth": TorchFidelity,
        "Mugs/mugs_vit_base/weights.pth": VisualDna,
    }
    for words, make in networks.items():
        with pytest.raises(MissingError, match=f"missing: .*{words}.*{tmp_path}"):
            make()
