from pathlib import Path

import pytest
from benchmarks.evaluate.needs import INSTALL, MissingError, digest, loading, need_packages, need_weights

from anon_export.faces import Weights
from anon_runtime.errors import AnonError
from benchmarks.evaluate import needs


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(INSTALL, "no-such-package", "pip install it")
    with pytest.raises(MissingError, match="row: missing: package no-such-package; pip install it"):
        need_packages("row", "numpy", "no-such-package")
    assert need_packages("row", "numpy").startswith("numpy 2")


def test_torchvision_is_needed_beside_those_that_import_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "distribution", lambda _: None)
    monkeypatch.setattr(needs, "find_spec", lambda _: None)
    with pytest.raises(MissingError, match="torchvision"):
        need_packages("row", "vdna")


def test_missing_weights_say_where_from_and_where_to(tmp_path: Path) -> None:
    weights = Weights(("a.pt",), 107, "https://example.org/files", lambda: tmp_path / "folder")
    with pytest.raises(MissingError) as caught:
        need_weights("row", weights)
    fix = f"download https://example.org/files/a.pt and put it into {tmp_path}/folder"
    assert str(caught.value) == f"row: missing: weights a.pt (107 MB); {fix}"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.pt").write_bytes(b"1")
    path = need_weights("row", weights)
    before = digest(path)
    path.write_bytes(b"2")
    assert digest(path) != before


def test_damaged_weights_are_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(MissingError, match="row: cannot load a.pt .*download it again") as caught,
        loading("row", tmp_path / "a.pt"),
    ):
        raise ValueError("two\nlines")
    assert "\n" not in str(caught.value)
    with pytest.raises(AnonError, match="as it was"), loading("row", tmp_path / "a.pt"):
        raise AnonError("as it was", "b", "c")
