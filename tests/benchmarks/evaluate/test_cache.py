from pathlib import Path

import numpy as np
import pytest

from benchmarks.evaluate.cache import Cache


def refuse() -> np.ndarray:
    raise AssertionError("it is in the cache")


def test_an_array_in_the_cache_is_not_computed_again(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "a.npz"
    with Cache(path, "1") as cache:
        cache.get("face ab/cd", lambda: np.array([1.0, np.nan]))
        cache.get("nothing", lambda: np.empty((0, 2)))
        np.testing.assert_array_equal(cache.get("face ab/cd", refuse), [1, np.nan])
    with Cache(path, "1") as cache:
        np.testing.assert_array_equal(cache.get("face ab/cd", refuse), [1, np.nan])
        assert cache.get("nothing", refuse).shape == (0, 2)
    assert path.parent.stat().st_mode & 0o077 == 0, "only the owner can read embeddings"


def test_another_version_computes_it_again(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with Cache(path, "network 1") as cache:
        cache.get("a", lambda: np.zeros(1))
    assert Cache(path, "network 2").get("a", lambda: np.ones(1)) == 1


def test_an_interruption_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    cache = Cache(path)

    def interrupted() -> None:
        with cache:
            cache.get("a", lambda: np.zeros(1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert Cache(path).get("a", refuse) == 0


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with Cache(path) as cache:
        assert cache.get("a", lambda: np.ones(1)) == 1
    assert Cache(path).get("a", refuse) == 1
