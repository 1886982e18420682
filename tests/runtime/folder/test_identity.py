import hashlib
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anon_runtime.errors import UsageError
from anon_runtime.folder import identity
from anon_runtime.folder.identity import identify, identify_source, is_marked, mark, read_seed
from anon_runtime.types import MAX_SEED, check_seed

SEEDS = st.integers(0, MAX_SEED)


@pytest.fixture(scope="module", autouse=True)
def quick_guesses() -> object:
    """Use scrypt with its smallest cost; with the real one, hundreds of seeds would take a minute."""
    with pytest.MonkeyPatch.context() as patch:
        scrypt = hashlib.scrypt
        patch.setattr(hashlib, "scrypt", lambda *a, **k: scrypt(*a, **k | {"n": 2}))
        identity.slow_hash.cache_clear()
        yield
    identity.slow_hash.cache_clear()


@given(st.binary(max_size=64), SEEDS)
def test_an_identity_depends_on_content_and_base_seed_only(content: bytes, seed: int) -> None:
    one = identify(content, seed)
    assert one == identify(bytes(bytearray(content)), seed)
    assert 0 <= one.seed < 2**32
    assert len(one.pseudonym) == 32
    others = [identify(content + b"x", seed), identify(content, (seed + 1) % 2**64)]
    assert one.pseudonym not in {other.pseudonym for other in others}
    assert f"{one.seed:08x}" not in one.pseudonym, "a journal may show the seed, so the name must not contain it"


@settings(max_examples=50)
@given(st.binary(max_size=20), st.binary(max_size=20))
def test_a_mark_knows_its_secret_and_no_other(secret: bytes, other: bytes) -> None:
    marked = mark(secret)
    assert is_marked(marked, secret)
    assert is_marked(marked, other) == (secret == other)
    assert mark(secret) != marked, "a table of marks cannot be used for two folders"


@given(SEEDS)
def test_sources_are_told_apart_and_not_told(seed: int) -> None:
    one = identify_source("/home/jane/1.jpg", seed)
    assert one == identify_source("/home/jane/1.jpg", seed) != identify_source("/home/john/1.jpg", seed)
    assert len(one) == 16


@pytest.mark.parametrize("bad", [7.5, 7.0, "7", None, True, np.True_, -1, 2**64, [1]])
def test_what_is_no_seed(bad: object) -> None:
    with pytest.raises(UsageError, match="seed"):
        check_seed(bad)


def test_seeds_of_other_libraries_are_pythons_afterwards() -> None:
    assert [type(check_seed(kind(7))) for kind in (int, np.int64, np.uint8)] == [int] * 3


def test_every_guess_at_a_seed_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attacker who has a photo could compare guesses with its pseudonym, its portrait's seed, or a mark."""
    asked: list[dict[str, int]] = []

    def note(*_: object, **parameters: int) -> bytes:
        asked.append(parameters)
        return bytes(32)

    monkeypatch.setattr(hashlib, "scrypt", note)
    for seed in (1, 2):
        identity.slow_hash.cache_clear()
        identify(b"photo", seed), mark(bytes([seed]))
    identity.slow_hash.cache_clear()
    assert len(asked) == 4
    assert all(128 * p["n"] * p["r"] * p["p"] >= 2**25 for p in asked), "32 MB each"


def test_a_seed_file_is_made_once_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    seed, made = read_seed(path)
    assert made
    assert 0 < seed <= MAX_SEED
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_seed(path) == (seed, False)
    assert read_seed(tmp_path / "other")[0] != seed
    path.write_text("\n 17 \n")
    assert read_seed(path) == (17, False)


@pytest.mark.parametrize("content", ["", "secret word", "1.5", "-1", str(2**64), "ü"])
def test_a_file_without_a_seed_is_told_and_not_shown(tmp_path: Path, content: str) -> None:
    path = tmp_path / "secret"
    path.write_text(content)
    with pytest.raises(UsageError, match="whole number from 0 to") as caught:
        read_seed(path)
    told = str(caught.value).replace(str(path), "").replace(str(MAX_SEED), "")
    assert not content or content not in told


def test_a_seed_file_that_cannot_be(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent" / "secret", Path("/proc/secret")):
        with pytest.raises(UsageError, match="seed file"):
            read_seed(path)
