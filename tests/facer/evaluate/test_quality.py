"""FID and Visual DNA: their distances against closed forms, their networks against the packages' own calls."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.evaluate.cache import Cache
from benchmarks.evaluate.pairs import ImageFile, Method
from benchmarks.evaluate.quality import FEWEST, INCEPTIONS, CleanFid, TorchFidelity, VisualDna, measure_dna, measure_fid
from benchmarks.evaluate.requirements import MissingError
from PIL import Image
from scipy.linalg import sqrtm


def gaussian(mean: np.ndarray, covariance: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Numbers whose mean and covariance are exactly these."""
    values = np.random.default_rng(seed).standard_normal((n, len(mean)))
    values -= values.mean(axis=0)
    white = values @ np.linalg.inv(np.linalg.cholesky(np.cov(values, rowvar=False))).T
    return white @ np.linalg.cholesky(covariance).T + mean


@pytest.mark.parametrize("name", list(INCEPTIONS))
def test_the_distance_of_two_gaussians_has_a_closed_form(inceptions: Path, name: str) -> None:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2): with covariances that commute, of the spreads alone."""
    network, rng = INCEPTIONS[name](), np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.standard_normal((12, 12)))
    spreads, means = rng.uniform(0.5, 3, (2, 12)), rng.standard_normal((2, 12))
    sets = [gaussian(means[i], turn @ np.diag(spreads[i] ** 2) @ turn.T, 200, i) for i in range(2)]
    expected = ((means[0] - means[1]) ** 2).sum() + ((spreads[0] - spreads[1]) ** 2).sum()
    assert network.distance(*sets) == pytest.approx(expected, rel=1e-6)
    assert network.distance(sets[0], sets[0]) == pytest.approx(0, abs=1e-5)
    random = [np.cov(rng.standard_normal((12, 40))) for _ in range(2)]
    sets = [gaussian(means[i], random[i], 200, 2 + i) for i in range(2)]
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(
        random[0] + random[1] - 2 * sqrtm(random[0] @ random[1]).real
    )
    assert network.distance(*sets) == pytest.approx(expected, rel=1e-6)


@pytest.fixture
def folder(tmp_path: Path, photos: list[np.ndarray]) -> Path:
    for i, photo in enumerate(photos[:3]):
        Image.fromarray(photo[:300, :280]).save(tmp_path / f"{i}.png")
    return tmp_path


def test_clean_fid_is_clean_fids(inceptions: Path, folder: Path) -> None:
    """Features of a folder, by the function that its own ``compute_fid`` calls."""
    import torch
    from cleanfid.fid import get_folder_features
    from cleanfid.inception_torchscript import InceptionV3W

    network = InceptionV3W(str(inceptions), download=False).eval()
    theirs = get_folder_features(str(folder), network, num_workers=0, device=torch.device("cpu"), verbose=False)
    own = CleanFid()
    images = [ImageFile(str(i), folder / f"{i}.png") for i in range(3)]
    np.testing.assert_allclose([own.features(p.pixels()) for p in images], theirs, rtol=1e-4, atol=1e-5)


def test_torch_fidelity_is_torch_fidelitys(inceptions: Path, folder: Path) -> None:
    """Features of a folder, by the functions that its own ``calculate_metrics`` calls."""
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
    assert theirs.std() > 0.01, "all the same: the comparison says nothing"


class Made:
    """A network whose features are made up, so that a small one can be measured."""

    name, version = "made up", "1"

    def features(self, image: np.ndarray) -> np.ndarray:
        return image[:4, 0].astype(float).ravel()

    def distance(self, a: np.ndarray, b: np.ndarray) -> float:
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
        found = measure_fid(Made(), cache, images, [same, other], {"many": many, "few": few})
    assert found["same"]["all"] == {"value": 0, "of": FEWEST + 10} and found["same"]["groups"]["few"] is None
    assert found["same"]["groups"]["many"]["value"] == 0 < found["other"]["groups"]["many"]["value"]


# Between activations from -1 to 1 of images in one batch and alone: some hundred roundings of 2**-24 in a row. A bin
# is 100 times as wide.
ROUNDING = 2e-5


def test_visual_dna_is_vdnas(mugs: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data set's is the sum of the images', and both are what the package's own processor makes.

    The processor takes both images in one batch, whose sums are rounded otherwise, so that an activation beside the
    edge of a bin may fall on the other side of it. Moving all activations down and up by the rounding gives the most
    and the fewest that may lie below each edge.
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
        return count(activations, **bins)

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
    assert found["crossed"]["groups"]["one"] is None and found["crossed"]["all"]["of"] == 2
    assert found["crossed"]["all"]["data set"] == 0, "the same images, as sets"
    assert found["crossed"]["all"]["image"] == pytest.approx(own.distance(dnas[0], dnas[1])), "wrong pairs are worse"


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for make, words in (
        (CleanFid, "inception-2015-12-05.pt"), (TorchFidelity, "weights-inception-2015-12-05-6726825d.pth"),
        (VisualDna, "Mugs/mugs_vit_base/weights.pth"),
    ):  # fmt: skip
        with pytest.raises(MissingError, match=f"missing: .*{words}.*{tmp_path}"):
            make()
