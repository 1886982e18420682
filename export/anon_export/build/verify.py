"""Verification: engines against the PyTorch model that they were built from, and an image against diffusers'.

A bundle carries PyTorch's outputs and diffusers' image with it. A machine without torch, such as the one that the
engines were built for, can therefore repeat the comparison.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image

from anon_runtime import Request, Settings
from anon_runtime.backends.engines import Engines
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.integrity import REBUILD
from anon_runtime.bundle.manifest import EngineError, EngineSpec, Verification
from anon_runtime.diffusion.generator import Generator
from anon_runtime.errors import AnonError, BundleError, first_line
from anon_runtime.types import Engine

from ..comparison import measure, psnr
from ..graphs.options import ReducedPrecision
from ..graphs.reference_outputs import REFERENCE_OUTPUTS, read_reference_outputs

REFERENCE_IMAGE = "check.png"  # in the bundle's folder: the image that diffusers generates
# The largest difference of an engine's output, relative to the largest value of PyTorch's, and the lowest PSNR of an
# image. For fp16-weights: a weight is rounded by 2 ** -11 of itself at most, and the independent errors of about a
# hundred layers in a row add up to ten times that. Measured were 1.8e-3 at full size and 1.7e-3 at small sizes with
# random weights, 1.4e-4 for a trained UNet, and images of 57 dB and more. A root mean square error of one level of
# 255 is 48 dB. What a UNet in bf16 or int8 costs is measured when it is built, see `quantization.damage`: the bounds
# here only notice an engine that a machine computes wrongly.
RELATIVE_BOUNDS = {"fp32": 1e-4, "fp16-weights": 5e-3, "fp16": 2e-2} | dict.fromkeys(get_args(ReducedPrecision), 0.5)
IMAGE_BOUNDS = {"fp32": 60.0, "fp16-weights": 48.0, "fp16": 40.0} | dict.fromkeys(get_args(ReducedPrecision), 15.0)
REQUEST = Request("closeup portrait photo of a white 34 woman, Smiling , Young , ", " Bald , Mustache , ", seed=7)
# Two steps run every part of the loop. Fifteen would take minutes with a full-size model.
SETTINGS = Settings(steps=2)
REPORT = "report the model and the versions in bundle.json"

Report = Callable[[str], object]


def verify(engines: Engines, report: Report = lambda _: None) -> Verification:
    """Compare a bundle's engines with PyTorch's outputs, and an image that the runtime generates with diffusers'.

    Args:
        engines: of the bundle, which holds the reference outputs and the reference image.
        report: called with the name of each engine before it runs.

    Raises:
        AnonError: an engine or the image differs from PyTorch by more than its precision allows.
    """
    bundle, errors = engines.bundle, {}
    for role, spec in bundle.manifest.engines.items():
        report(role)
        errors[role] = check_engine(engines[role], spec, bundle.path / spec.path, role)
    report("image")
    return Verification(errors, _check_image(engines))


def check_engine(engine: Engine, spec: EngineSpec, path: Path, role: str) -> EngineError:
    """The largest differences over all outputs of one engine.

    Args:
        engine, spec: the engine and its entry in the manifest.
        path: of its file. The reference outputs lie beside it.
        role: the engine's name in messages.

    Raises:
        AnonError: the differences are beyond the bound of its precision, or NaN.
    """
    reference = path.with_name(REFERENCE_OUTPUTS)
    inputs, expected = read_reference_outputs(reference)
    outputs = engine(inputs)
    try:
        theirs = {tensor.name: expected[tensor.name] for tensor in spec.outputs}
        errors = [measure(np.asarray(outputs[name], np.float32), array) for name, array in theirs.items()]
    except (KeyError, ValueError) as misfit:  # an output that is missing, or has another shape
        why = f"PyTorch's answers do not fit the {role} engine ({first_line(misfit)})"
        raise BundleError(str(reference), why, REBUILD) from None
    bound = _bound(RELATIVE_BOUNDS, spec)
    for error in errors:
        if not error.relative <= bound:  # NaN, too
            why = f"it differs from PyTorch by {error.relative:.1e} of the largest value, the bound is {bound:.0e}"
            raise AnonError(f"the {role} engine", why, REPORT)
    return max(errors, key=lambda error: error.relative)


def _check_image(engines: Engines) -> float:
    bundle = engines.bundle
    path, bound = bundle.path / REFERENCE_IMAGE, image_bound(bundle)
    try:
        with Image.open(path) as image:
            theirs = np.asarray(image.convert("RGB"))
    except OSError as error:
        raise BundleError(str(path), f"it cannot be read ({first_line(error)})", REBUILD) from None
    generator = Generator.load(engines, SETTINGS.resolve(bundle.manifest).sampling)
    ours = np.asarray(generator.generate([REQUEST])[0].image)
    ratio = min(psnr(ours, theirs), 999.0)  # JSON has no infinity
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
    """The key of the reference image in a bundle, see `BuildPlan.image_key`; None if it has none."""
    try:
        with Image.open(folder / REFERENCE_IMAGE) as image:
            return image.info.get("key")
    except OSError:
        return None
