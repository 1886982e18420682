"""Engines against the PyTorch model that they were built from: numbers on seeded inputs, then a whole image.

A bundle carries PyTorch's answers with it, so a machine without torch, such as the one that its engines were built
for, can repeat the comparison.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anon_runtime import Anonymizer, Request, Settings
from anon_runtime.backends.base import first_line
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.manifest import EngineError, EngineSpec, Verification
from anon_runtime.errors import AnonError, BundleError
from anon_runtime.bundle.integrity import REBUILD

from ..graphs.checks import CHECK, Arrays, read_check

Engine = Callable[[Arrays], Arrays]

IMAGE = "check.png"  # in the bundle's folder: the image that diffusers generates
# Largest difference of an engine's output, relative to the largest value of PyTorch's; lowest PSNR of an image.
# fp16-weights: a weight is rounded by 2 ** -11 of itself at most, and the independent errors of about a hundred layers,
# one after the other, add up to ten times that. Measured were 1.8e-3 at full size and 1.7e-3 at small sizes (random
# weights; a trained UNet: 1.4e-4), and images of 57 dB and more. 48 dB are one level of 255, as a root mean square.
RELATIVE_BOUNDS = {"fp32": 1e-4, "fp16-weights": 5e-3, "fp16": 2e-2}
IMAGE_BOUNDS = {"fp32": 60.0, "fp16-weights": 48.0, "fp16": 40.0}
REQUEST = Request("closeup portrait photo of a white 34 woman, Smiling , Young , ", " Bald , Mustache , ", seed=7)
# Two steps go through every part of the loop; a full-size model takes minutes for fifteen.
SETTINGS = Settings(steps=2)
REPORT = "report the model and the versions in bundle.json"


def verify(anonymizer: Anonymizer, report: Callable[[str], None] = lambda _: None) -> Verification:
    """Compare a bundle's engines with PyTorch's answers, and an image with diffusers'.

    ``report`` is called with the name of each engine as its turn comes.

    Raises:
        AnonError: an engine or the image is further from PyTorch than its precision allows.
    """
    bundle = anonymizer.bundle
    errors = {}
    for role, spec in bundle.manifest.engines.items():
        report(role)
        errors[role] = check_engine(anonymizer.engine(role), spec, bundle.path / spec.path, role)
    report("image")
    return Verification(errors, _check_image(anonymizer))


def check_engine(engine: Engine, spec: EngineSpec, path: Path, role: str) -> EngineError:
    """The largest differences over all outputs of one engine.

    Args:
        engine, spec: the engine and its entry in the manifest.
        path: of its file; PyTorch's answers lie beside it.
        role: how messages call it.

    Raises:
        AnonError: they are beyond the bound of its precision, or NaN.
    """
    inputs, outputs = read_check(path.with_name(CHECK))
    ours = engine(inputs)
    try:
        answers = {tensor.name: outputs[tensor.name] for tensor in spec.outputs}
        errors = [measure(np.asarray(ours[name], np.float32), array) for name, array in answers.items()]
    except (KeyError, ValueError) as misfit:  # an answer that is missing, or has another shape
        why = f"PyTorch's answers do not fit the {role} engine ({first_line(misfit)})"
        raise BundleError(str(path.with_name(CHECK)), why, REBUILD) from None
    bound = _bound(RELATIVE_BOUNDS, spec)
    for error in errors:
        if not error.relative <= bound:
            why = f"it differs from PyTorch by {error.relative:.1e} of the largest value, the bound is {bound:.0e}"
            raise AnonError(f"the {role} engine", why, REPORT)
    return max(errors, key=lambda error: error.relative)


def _check_image(anonymizer: Anonymizer) -> float:
    bundle = anonymizer.bundle
    try:
        with Image.open(bundle.path / IMAGE) as image:
            theirs = np.asarray(image.convert("RGB"))
    except OSError as error:
        raise BundleError(str(bundle.path / IMAGE), f"it cannot be read ({first_line(error)})", REBUILD) from None
    ours = np.asarray(anonymizer.generate([REQUEST], SETTINGS)[0].image)
    ratio = min(psnr(ours, theirs), 999.0)  # JSON knows no infinity
    bound = image_bound(bundle)
    if not ratio >= bound:
        why = f"it differs from diffusers' (PSNR {ratio:.1f} dB, the bound is {bound:.0f})"
        raise AnonError("an image of the bundle", why, REPORT)
    return ratio


def image_bound(bundle: Bundle) -> float:
    """The lowest PSNR of an image that the precisions of the bundle's engines allow."""
    return min(_bound(IMAGE_BOUNDS, bundle.spec(role)) for role in ("text_encoder", "unet", "vae_decoder"))


def _bound(bounds: Mapping[str, float], spec: EngineSpec) -> float:
    if spec.precision not in bounds:
        why = f"its precision is {spec.precision!r}, which this version cannot judge"
        raise BundleError(spec.path, why, f"{REBUILD} of this version")
    return bounds[spec.precision]


def read_image_key(folder: Path) -> str | None:
    """The key of the image in a bundle, see `work.BuildPlan.image_key`; None if it has none."""
    try:
        with Image.open(folder / IMAGE) as image:
            return image.info.get("key")
    except OSError:
        return None


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
    """Peak signal-to-noise ratio of two 8-bit images in dB; infinite if they are equal."""
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))
