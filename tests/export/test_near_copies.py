"""Near copies of photos, which count as photos of one person."""

import numpy as np

from anon_export.near_copies import SIDE, group_copies


def thumbnails(n: int) -> np.ndarray:
    """Photos that have nothing in common."""
    return np.random.default_rng(1).uniform(0, 255, (n, SIDE * SIDE * 3)).astype(np.float32)


def test_different_photos_are_groups_of_their_own() -> None:
    assert group_copies(thumbnails(8)).tolist() == list(range(8))


def test_copies_with_noise_or_other_brightness_are_grouped() -> None:
    photos = thumbnails(8)
    noise = np.random.default_rng(2).normal(0, 20, photos[0].shape)
    copies = np.stack([photos[2] + noise, photos[5] * 0.8 + 10]).astype(np.float32)
    assert group_copies(np.concatenate([photos, copies])).tolist() == [*range(8), 2, 5]


def test_a_chain_of_near_copies_is_one_group() -> None:
    photos, (other,) = thumbnails(9), np.random.default_rng(2).uniform(0, 255, (1, SIDE * SIDE * 3))
    photos, other = photos - np.float32(127.5), other.astype(np.float32) - np.float32(127.5)
    for i in range(3):  # correlations of about cos(18 degrees) with the next one, and of cos(36 degrees) at the ends
        photos[i] = np.cos(i * np.pi / 10) * photos[0] + np.sin(i * np.pi / 10) * other
    different = (photos - photos.mean(axis=0))[:3]
    different /= np.linalg.norm(different, axis=1, keepdims=True)
    alike = different @ different.T
    assert alike[0, 1] > 0.88 > alike[0, 2]
    assert alike[1, 2] > 0.88
    assert group_copies(photos).tolist() == [0, 0, 0, *range(3, 9)]


def test_photos_that_are_all_equal_are_one_group() -> None:
    assert set(group_copies(np.repeat(thumbnails(1).round(), 5, axis=0)).tolist()) == {0}


def test_photos_that_belong_together_for_another_reason_are_grouped() -> None:
    same = np.zeros((4, 4), bool)
    same[1, 3] = same[3, 1] = True
    assert group_copies(thumbnails(4), same=same).tolist() == [0, 1, 2, 1]
