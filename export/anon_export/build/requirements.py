"""The Python packages that a build needs, checked before any work."""

from anon_runtime.backends.processor import multiplies_bf16
from anon_runtime.errors import AnonError

from ..extras import EXTRAS, install_command, is_installed
from ..targets import TARGETS
from .options import BuildOptions, FaceNetworks

_EXTRAS_OF_FACES: dict[FaceNetworks, tuple[str, ...]] = {
    "demo": ("demo",),
    "facer+deepface": ("facer", "deepface"),
    "none": (),
}


def check_requirements(options: BuildOptions) -> None:
    """Fail before any long work if a package that a build needs is not installed, or the processor cannot do it.

    Raises:
        AnonError: lists all missing packages and the extras that provide them, or names the precision.
    """
    target, faces = TARGETS[options.target], options.face_networks
    needed: dict[str, tuple[str, ...]] = {target.extra: (target.package,)}
    # onnxruntime also runs the face detector to get its reference outputs, and checks the graphs of engines for a GPU
    # that this machine does not have.
    if faces != "none" or options.target == "tensorrt-rtx":
        needed["cpu"] = EXTRAS["cpu"]
    if options.needs_nncf:
        needed["int8"] = EXTRAS["int8"]
    needed |= {extra: EXTRAS[extra] for extra in ("export", *_EXTRAS_OF_FACES[faces])}
    missing = {
        extra: absent for extra, names in needed.items() if (absent := [n for n in names if not is_installed(n)])
    }
    if options.precision.endswith("bf16") and not multiplies_bf16():
        why = "this processor has no instructions for it, and the build could not measure what it costs"
        raise AnonError(f"`precision` {options.precision}", why, "build where it has, or choose fp32 or int8")
    if missing:
        names = ", ".join(name for modules in missing.values() for name in modules)
        fix = f"run `{install_command(*missing)}`"
        if "cpu" in missing:
            fix += ", with gpu in place of cpu where there is a GPU"
        if missing.keys() <= {"demo", "facer", "deepface"}:
            others = [choice for choice in ("demo", "none") if choice != faces]
            fix += f", or build with {' or '.join(f'`faces` {choice}' for choice in others)}"
        raise AnonError("packages that this build needs", f"not installed: {names}", fix)
