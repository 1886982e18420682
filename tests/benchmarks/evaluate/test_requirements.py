from pathlib import Path

import pytest
from huggingface_hub import constants

from anon_export.faces import Weights
from anon_runtime.errors import AnonError
from benchmarks.evaluate import requirements
from benchmarks.evaluate.requirements import MissingError, Repository, digest, loading, require


def weights(folder: Path) -> Weights:
    return Weights(("a.pt",), 107, "https://example.org/files", lambda: folder)


def test_everything_that_is_missing_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has packages and how to install them, and files, where to get them and where to put them."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setitem(requirements.INSTALL, "no-such-package", "pip install it")
    repository = Repository("owner/model", (("config.json",), ("a.bin", "b.bin")))
    with pytest.raises(MissingError) as caught:
        require("row", "numpy", "no-such-package", weights=[weights(tmp_path / "folder")], repository=repository)
    assert str(caught.value) == (
        "row: missing: package no-such-package, weights a.pt (107 MB), config.json, a.bin or b.bin of owner/model; "
        f"pip install it; download https://example.org/files/a.pt and put it into {tmp_path}/folder; "
        f"run `hf download owner/model config.json a.bin`, which puts them into {tmp_path}"
    )


def test_what_is_there_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(b"1")
    packages, paths = require("row", "numpy", "pillow", weights=[weights(tmp_path)])
    assert packages.startswith("numpy 2")
    assert " pillow " in packages
    assert paths == [path]
    before = digest(path)
    path.write_bytes(b"2")
    assert digest(path) != before


def test_packages_that_import_torchvision_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "find_spec", lambda _: None)
    monkeypatch.setattr(requirements, "is_installed", lambda _: True)
    with pytest.raises(MissingError, match="missing: package torchvision"):
        require("row", "vdna")


def test_damaged_weights_are_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(MissingError, match=r"row: cannot load a\.pt .*download it again") as caught,
        loading("row", tmp_path / "a.pt"),
    ):
        raise ValueError("two\nlines")
    assert "\n" not in str(caught.value)
    with pytest.raises(AnonError, match="as it was"), loading("row", tmp_path / "a.pt"):
        raise AnonError("as it was", "b", "c")
