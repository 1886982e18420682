"""Benchmarks end with one line and an exit code where they cannot run."""

import subprocess
import sys
from importlib import import_module

import pytest

from anon_runtime.errors import UsageError
from benchmarks.command_line import explain_missing_package, one_line_errors

# Runs a module as the program, on a machine that has no package of this name.
WITHOUT = """
import runpy, sys
from importlib.machinery import PathFinder

module, package, *arguments = sys.argv[1:]

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] == package else super().find_spec(name, path, target)

sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]
sys.argv = [module, *arguments]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def run(module: str, package: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT, f"benchmarks.{module}", package, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("module", "package", "extras", "arguments"),
    [
        ("acceleration", "torch", "export,demo", ["data"]),
        ("brownian", "torch", "export", []),
        ("demo_model", "scipy", "export,demo", ["data"]),
        ("evaluate", "matplotlib", "export,evaluate", ["photos", "a=b", "-o", "out"]),
        ("exactness", "torchsde", "cpu,export", []),
        ("extraction", "torch", "cpu,export,facer,deepface,test", []),
        ("folder", "skimage", "cpu,demo,ray", ["--photos", "1"]),
        ("footprint", "torch", "export", []),
        ("full_size", "torch", "cpu,export", ["--folder", "{tmp}"]),
        ("throughput", "matplotlib", "export,bench", ["--out", "{tmp}"]),
    ],
)
def test_a_missing_package_is_one_line(
    module: str, package: str, extras: str, arguments: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("missing")
    result = run(module, package, *(argument.replace("{tmp}", str(folder)) for argument in arguments))
    fix = f"run `pip install 'anon-engines[{extras}]'`"
    # Lines before it are logged by packages while they are imported.
    assert result.stderr.splitlines()[-1] == f"{module}: error: package {package}: it is not installed; {fix}"
    assert "Traceback" not in result.stderr
    assert result.returncode == 1


def test_an_error_of_this_project_is_one_line() -> None:
    result = run("operators", "none", "nowhere", "unet")
    (line,) = result.stderr.splitlines()
    assert line.startswith("operators: error: ")
    assert "nowhere" in line
    assert result.returncode == 1


def test_the_exit_code_is_that_of_the_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, one_line_errors("__main__", extras="export"):
        raise UsageError("a", "b", "c")
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith(": error: a: b; c\n")


def test_errors_pass_through_an_imported_benchmark() -> None:
    with pytest.raises(UsageError), one_line_errors("benchmarks.exactness", extras="export"):
        raise UsageError("a", "b", "c")


def test_other_errors_keep_their_traceback() -> None:
    with pytest.raises(ValueError, match="a bug"), one_line_errors("__main__", extras="export"):
        raise ValueError("a bug")
    with pytest.raises(ModuleNotFoundError), one_line_errors("__main__", extras="export"):
        import_module("benchmarks.no_such_module")


def test_a_package_that_is_installed_is_not_missing() -> None:
    assert explain_missing_package(ModuleNotFoundError("a", name="numpy.no_such_part"), "export") is None
    assert explain_missing_package(ModuleNotFoundError("a", name="no_such_package"), "export") is not None
