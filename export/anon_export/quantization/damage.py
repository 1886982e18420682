"""What a UNet in bf16 or int8 costs: its images and its outputs beside those of the exact one."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import median

import numpy as np

from anon_runtime import Anonymizer, Settings
from anon_runtime.backends.engines import Engines
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.manifest import Damage
from anon_runtime.errors import AnonError
from anon_runtime.faces.attributes import CELEBA
from anon_runtime.types import Description, Engine, Pixels

from ..comparison import psnr, relative_rms
from ..graphs.options import Precision
from .recording import Call

# The worst values that a build accepts. A UNet that is reduced well stays far from them, see docs/speed.md.
MOST_RMS, LEAST_PSNR, LEAST_AGREEMENT = 0.35, 15.0, 0.9


def measure_damage(
    bundle: Bundle,
    unet: Engine,
    calls: Sequence[Call],
    images: Sequence[Pixels],
    exact: Sequence[Pixels],
    float_layers: Sequence[str],
) -> Damage:
    """Compare a reduced UNet with the exact one.

    Args:
        bundle: whose face networks read the images, if it has any.
        unet: the reduced engine.
        calls: of the exact UNet, of images that it was not calibrated with.
        images, exact: the images of the reduced and of the exact UNet, for the same requests.
        float_layers: layers that are not quantized.
    """
    errors: dict[float, list[float]] = defaultdict(list)
    for call in calls:
        output = np.asarray(unet(call.inputs)["out_sample"], np.float32)
        errors[call.timestep].append(relative_rms(output, call.output))
    ratios = [min(psnr(own, theirs), 999.0) for own, theirs in zip(images, exact, strict=True)]
    with Engines(bundle) as engines:
        agreement, one_face = compare_faces(engines, images, exact)
    return Damage(
        images=len(images),
        rms=tuple((timestep, float(np.mean(errors[timestep]))) for timestep in sorted(errors, reverse=True)),
        psnr=median(ratios),
        worst_psnr=min(ratios),
        agreement=agreement,
        one_face=one_face,
        float_layers=tuple(float_layers),
    )


def check_damage(damage: Damage, precision: Precision) -> None:
    """Refuse a reduced UNet that is too far from the exact one.

    Raises:
        AnonError: names what was measured, and the bound.
    """
    worst = float(np.max([error for _, error in damage.rms]))  # NaN if one of them is
    found = (
        (worst <= MOST_RMS, f"its outputs differ by {worst:.2f} of their size, the bound is {MOST_RMS}"),
        (damage.psnr >= LEAST_PSNR, f"its images differ (PSNR {damage.psnr:.1f} dB, the bound is {LEAST_PSNR:.0f})"),
        (
            damage.agreement is None or damage.agreement >= LEAST_AGREEMENT,
            f"{damage.agreement or 0:.3f} of the attributes of its images are the same, the bound is {LEAST_AGREEMENT}",
        ),
    )
    for fine, why in found:
        if not fine:
            raise AnonError(f"the UNet in {precision}", why, "build with `precision` fp32 or int8-weights")


def compare_faces(
    engines: Engines, images: Sequence[Pixels], exact: Sequence[Pixels]
) -> tuple[float | None, float | None]:
    """Shares, over the exact images with one face: of attributes that are the same, and of images with one face.

    Both are None if the bundle has no face networks, or no exact image shows one face.

    Args:
        engines: whose face networks read the images.
        images, exact: uint8 (height, width, 3), RGB, in the same order.
    """
    if "face_detector" not in engines.bundle.manifest.engines:
        return None, None
    reader = Anonymizer.of(engines, Settings(guard="off")).reader
    chosen = [k for k, faces in enumerate(reader.detect(exact)) if len(faces) == 1]
    if not chosen:
        return None, None
    ours, theirs = ([some[k] for k in chosen] for some in (images, exact))
    one_face = [len(faces) == 1 for faces in reader.detect(ours)]
    both = zip(reader.describe_all(ours), reader.describe_all(theirs), strict=True)
    same = [_count_same(own, other) for own, other in both]
    return float(np.mean(same)) / len(CELEBA), float(np.mean(one_face))


def _count_same(ours: object, theirs: object) -> int:
    """The number of attributes that two images show or lack alike; none if one of them shows no face."""
    if not (isinstance(ours, Description) and isinstance(theirs, Description)):
        return 0
    return sum((float(ours.attributes[name]) > 0.5) == (float(theirs.attributes[name]) > 0.5) for name in CELEBA)
