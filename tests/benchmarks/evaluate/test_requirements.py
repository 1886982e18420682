from pathlib import Path

import pytest
from benchmarks.evaluate.requirements import MissingError, Repository, digest, loading, need
from huggingface_hub import constants

from anon_export.faces import Weights
from anon_runtime.errors import AnonError
from benchmarks.evaluate import requirements


def weights(folder: Path) -> Weights:
    return Weights(("a.pt",), 107, "https://example.org/files", lambda: folder)


def test_all_that_is_missing_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages with how to install them, files with where they come from and where they go."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setitem(requirements.INSTALL, "no-such-package", "pip install it")
    repository = Repository("owner/model", (("config.json",), ("a.bin", "b.bin")))
    with pytest.raises(MissingError) as caught:
        need("row", "numpy", "no-such-package", weights=[weights(tmp_path / "folder")], repository=repository)
    assert str(caught.value) == (
        "row: missing: package no-such-package, weights a.pt (107 MB), config.json, a.bin or b.bin of owner/model; "
        f"pip install it; download https://example.org/files/a.pt and put it into {tmp_path}/folder; "
        f"run `hf download owner/model config.json a.bin`, which puts them into {tmp_path}"
    )


def test_what_is_there_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(b"1")
    packages, paths = need("row", "numpy", "pillow", weights=[weights(tmp_path)])
    assert packages.startswith("numpy 2") and " pillow " in packages and paths == [path]
    before = digest(path)
    path.write_bytes(b"2")
    assert digest(path) != before


def test_torchvision_is_needed_beside_those_that_import_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "find_spec", lambda _: None)
    monkeypatch.setattr(requirements, "_installed", lambda _: True)
    with pytest.raises(MissingError, match="missing: package torchvision"):
        need("row", "vdna")


def test_damaged_weights_are_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(MissingError, match="row: cannot load a.pt .*download it again") as caught,
        loading("row", tmp_path / "a.pt"),
    ):
        raise ValueError("two\nlines")
    assert "\n" not in str(caught.value)
    with pytest.raises(AnonError, match="as it was"), loading("row", tmp_path / "a.pt"):
        raise AnonError("as it was", "b", "c")
