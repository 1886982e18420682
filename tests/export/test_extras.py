"""Messages about packages that are missing or broken."""

import re
import tomllib
from pathlib import Path

import pytest

from anon_export.extras import EXTRAS, explain_import_error
from tests.export.command import NONE, run


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("raise ImportError('undefined symbol: _ZN')", r"torch: it is installed and .*\(undefined symbol: _ZN\)"),
        ("raise OSError('libx.so: cannot open')", r"torch: it is installed and .*\(libx.so: cannot open\)"),
        ("import torch.absent", r"torch: it is installed and .*\(No module named 'torch.absent'\)"),
        ("import absent_from_everywhere", "absent_from_everywhere: it is not installed"),
    ],
)
def test_a_broken_package_is_not_called_missing(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(content)
    code, output, errors = run((), "build", "demo", *NONE, "--output", tmp_path / "out", path=tmp_path)
    assert (code, output, errors.count("\n")) == (1, "", 1), errors
    assert re.search(f"error: package {message}", errors), errors
    assert not (tmp_path / "out").exists()


def test_imports_that_libraries_wrap_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers and transformers import late, and raise errors of their own then."""
    (tmp_path / "broken_library.py").write_text("raise ImportError('no GPU')")
    monkeypatch.syspath_prepend(tmp_path)

    def load_pipeline() -> None:
        try:
            __import__("broken_library")
        except ImportError as error:
            raise RuntimeError("Failed to import some pipeline") from error

    with pytest.raises(RuntimeError) as caught:
        load_pipeline()
    found = explain_import_error(caught.value)
    assert found is not None
    assert "package broken_library: it is installed" in str(found)
    assert "no GPU" in str(found)


def test_other_errors_are_not_explained_away() -> None:
    with pytest.raises(ValueError, match="invalid literal") as caught:
        int("a mistake of ours")
    assert explain_import_error(caught.value) is None


def test_the_extras_are_the_project_s() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    wanted = {
        extra: {re.match(r"[\w.-]+", line)[0] for line in lines}  # type: ignore[index]
        for extra, lines in project["optional-dependencies"].items()
    }
    assert set(EXTRAS["export"]) == wanted["export"]
    assert set(EXTRAS["cpu"]) == wanted["cpu"]
    assert set(EXTRAS["deepface"]) == wanted["deepface"]
    assert {{"facer": "pyfacer"}.get(name, name) for name in EXTRAS["facer"]} == wanted["facer"]
    assert wanted["demo"] - set(EXTRAS["demo"]) == {"scikit-image"}, "it ships a photo, which no build reads"
