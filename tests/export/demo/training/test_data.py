from pathlib import Path

import numpy as np
import pytest

from anon_export.demo.training.data import Jitter, Photos, groups_of_copies, load_photos, split, vary
from anon_runtime.errors import UsageError

STILL = Jitter(shift=0, scale=0, turn=0, light=0)


def test_missing_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"labels.csv and photos/"):
        load_photos(tmp_path / "none")


def test_near_copies_are_never_on_two_sides(photos: Photos) -> None:
    group = groups_of_copies(photos)
    assert group[19] == group[0]
    assert len(set(group)) == 19
    trained, held_out = split(photos)
    assert len(held_out) >= 4
    assert sorted(trained.names + held_out.names) == sorted(photos.names)
    assert ("000.png" in held_out.names) == ("019.png" in held_out.names)


def test_images_without_jitter_are_the_photos_or_their_mirror_images(photos: Photos) -> None:
    varied = vary(photos.pixels, 256, STILL, np.random.default_rng(1))
    plain = photos.pixels.float() / 127.5 - 1
    mirrored = [bool((a - b.flip(-1)).abs().max() < 1e-4) for a, b in zip(varied, plain, strict=True)]
    straight = [bool((a - b).abs().max() < 1e-4) for a, b in zip(varied, plain, strict=True)]
    assert all(m != s for m, s in zip(mirrored, straight, strict=True))
    assert 0 < sum(mirrored) < 20


def test_varied_images_differ_a_little(photos: Photos) -> None:
    jitter = Jitter(shift=0.02, scale=0.05, turn=3, light=0.1)
    varied = vary(photos.pixels, 96, jitter, np.random.default_rng(1))
    still = vary(photos.pixels, 96, STILL, np.random.default_rng(1))
    assert varied.shape == (20, 3, 96, 96)
    assert varied.abs().max() <= 1
    assert min((a - b).abs().mean() for a, b in zip(varied, still, strict=True)) > 0.01
