"""Engines against the PyTorch model that they were built from: numbers on seeded inputs, then a whole picture.

A bundle carries PyTorch's answers with it, so a machine without torch, such as the one that its engines were built
for, can repeat the comparison.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anon_runtime import Anonymizer, Request, Settings
from anon_runtime.bundle import Bundle, EngineError, EngineSpec, Verification
from anon_runtime.errors import AnonError, BundleError

Arrays = Mapping[str, NDArray[np.generic]]
Engine = Callable[[Arrays], Arrays]

# Beside each graph: the inputs, and PyTorch's outputs. In the bundle's folder: the picture that diffusers paints.
CHECK = "check.npz"
PICTURE = "check.png"
# Largest difference of an engine's output, relative to the largest value of PyTorch's; lowest PSNR of a picture.
RELATIVE_BOUNDS = {"fp32": 1e-4, "fp16": 2e-2}
PICTURE_BOUNDS = {"fp32": 60.0, "fp16": 40.0}
REQUEST = Request("closeup portrait photo of a white 34 woman, Smiling , Young , ", " Bald , Mustache , ", seed=7)
# Two steps go through every part of the loop; a full-size model takes minutes for fifteen.
SETTINGS = Settings(steps=2)
REPORT = "report the model and the versions in bundle.json"


def write_check(path: Path, inputs: Arrays, outputs: Arrays) -> None:
    """Keep an engine's inputs and the outputs that PyTorch gives for them."""
    arrays = {f"input {name}": array for name, array in inputs.items()}
    arrays |= {f"output {name}": array for name, array in outputs.items()}
    np.savez_compressed(path, allow_pickle=False, **arrays)


def merge_checks(paths: Sequence[Path], path: Path) -> None:
    """Keep the answers of several networks to the same inputs together."""
    merged: dict[str, NDArray[np.generic]] = {}
    for part in paths:
        with np.load(part, allow_pickle=False) as arrays:
            merged |= {name: arrays[name] for name in arrays.files}
    np.savez_compressed(path, allow_pickle=False, **merged)


def verify(anonymizer: Anonymizer, report: Callable[[str], None] = lambda _: None) -> Verification:
    """Compare a bundle's engines with PyTorch's answers, and a picture with diffusers'.

    ``report`` is called with the name of each engine as its turn comes.

    Raises:
        AnonError: an engine or the picture is further from PyTorch than its precision allows.
    """
    bundle = anonymizer.bundle
    errors = {}
    for role, spec in bundle.manifest.engines.items():
        report(role)
        errors[role] = check_engine(anonymizer.engine(role), spec, bundle.path / spec.path, role)
    report("picture")
    return Verification(errors, _check_picture(anonymizer))


def check_engine(engine: Engine, spec: EngineSpec, path: Path, role: str) -> EngineError:
    """The largest differences over all outputs of one engine.

    Args:
        engine, spec: the engine and its entry in the manifest.
        path: of its file; PyTorch's answers lie beside it.
        role: how messages call it.

    Raises:
        AnonError: they are beyond the bound of its precision, or NaN.
    """
    inputs, outputs = _read_check(path.with_name(CHECK))
    names = {tensor.name for tensor in spec.outputs}
    ours = engine(inputs)
    errors = [measure(np.asarray(ours[name], np.float32), array) for name, array in outputs.items() if name in names]
    bound = RELATIVE_BOUNDS[spec.precision]
    for error in errors:
        if not error.relative <= bound:
            why = f"it differs from PyTorch by {error.relative:.1e} of the largest value, the bound is {bound:.0e}"
            raise AnonError(f"the {role} engine", why, REPORT)
    return max(errors, key=lambda error: error.relative)


def _read_check(path: Path) -> tuple[dict[str, NDArray[np.generic]], dict[str, NDArray[np.float32]]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            content = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError) as error:
        raise BundleError(str(path), f"it cannot be read ({error})", "build the bundle again") from None

    def part(kind: str) -> dict[str, NDArray[np.generic]]:
        return {name.removeprefix(kind): array for name, array in content.items() if name.startswith(kind)}

    return part("input "), {name: np.asarray(a, np.float32) for name, a in part("output ").items()}


def _check_picture(anonymizer: Anonymizer) -> float:
    bundle = anonymizer.bundle
    with Image.open(bundle.path / PICTURE) as image:
        theirs = np.asarray(image.convert("RGB"))
    ours = np.asarray(anonymizer.generate([REQUEST], SETTINGS)[0].image)
    ratio = min(psnr(ours, theirs), 999.0)  # JSON knows no infinity
    bound = picture_bound(bundle)
    if not ratio >= bound:
        why = f"it differs from diffusers' (PSNR {ratio:.1f} dB, the bound is {bound:.0f})"
        raise AnonError("a picture of the bundle", why, REPORT)
    return ratio


def picture_bound(bundle: Bundle) -> float:
    """The lowest PSNR of a picture that the precisions of the bundle's engines allow."""
    return min(PICTURE_BOUNDS[bundle.spec(role).precision] for role in ("text_encoder", "unet", "vae_decoder"))


def measure(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> EngineError:
    """Differences of two arrays; NaN anywhere makes all of them NaN."""
    error = np.abs(ours.astype(np.float64) - theirs)
    largest = float(np.abs(theirs).max())
    return EngineError(
        max=float(error.max()),
        mean=float(error.mean()),
        p999=float(np.quantile(error, 0.999)),
        relative=float(error.max() / max(largest, 1e-12)),
    )


def psnr(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    """Peak signal-to-noise ratio of two 8-bit pictures in dB; infinite if they are equal."""
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))
