"""A bundle with an exact UNet -> the same bundle with one in bf16 or int8, and the measured damage."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from anon_runtime.backends.base import load_engine
from anon_runtime.backends.openvino import import_openvino
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.manifest import Manifest

from ..graphs.options import Precision
from ..graphs.reference_outputs import REFERENCE_OUTPUTS, read_reference_outputs
from .damage import check_damage, measure_damage
from .float_layers import layers_by_kind
from .quantize import calibrate, cut_cached, quantize
from .recording import Call, Recorder, Report, generate_images, record_calls, write_requests

CALIBRATION_SEED, CHECK_SEED = 1, 2  # the images that are compared are not those of the calibration
CALIBRATED = ("int8", "int8-bf16")
COMPARED_CALLS = 116  # that are compared one by one: those of two images of 15 steps


def reduce_bundle(
    bundle: Bundle, precision: Precision, calibration_images: int, check_images: int, report: Report
) -> Manifest:
    """Reduce the UNet of a bundle to bf16 or int8 in its place, and measure what that costs.

    The exact UNet runs the whole loop for random prompts. Its calls calibrate the reduced one; its images and calls for
    other prompts are what the reduced one is compared with.

    Args:
        bundle: of OpenVINO models in fp32, that nobody else uses.
        precision: one of `ReducedPrecision`.
        calibration_images, check_images: numbers of images.
        report: called with what happens.

    Returns:
        The manifest, with the engines and the damage of the reduced UNet.

    Raises:
        AnonError: the reduced UNet is too far from the exact one.
    """
    path = bundle.engine_path("unet")
    requests = write_requests(check_images, CHECK_SEED)
    unet = load_engine("openvino", path)
    calibration = write_requests(calibration_images if precision in CALIBRATED else 0, CALIBRATION_SEED)
    calls = record_calls(bundle, unet, calibration, report)
    recorder = Recorder(unet, COMPARED_CALLS)
    exact = generate_images(bundle, recorder, requests, report)
    compared = recorder.calls
    del unet, recorder  # their memory is needed for what follows
    float_layers: list[str] = []
    if precision != "bf16":  # OpenVINO converts a UNet to bf16 itself
        model = import_openvino().Core().read_model(path)
        quantized, float_layers = quantize(model, calls, precision, report)
        put_unet(bundle, quantized)
        del model, quantized
    report("comparing")
    unet = load_engine("openvino", path, precision=precision)
    images = generate_images(bundle, unet, requests, report)
    damage = measure_damage(bundle, unet, compared, images, exact, float_layers)
    check_damage(damage, precision)
    return replace(with_precision(bundle.manifest, precision), damage=damage)


def put_unet(bundle: Bundle, unet: Any) -> None:
    """Put a UNet in the place of a bundle's, and its part for DeepCache."""
    made = {"unet": unet}
    if "unet_cached" in bundle.manifest.engines:
        made["unet_cached"] = cut_cached(unet)
    for role, model in made.items():
        replace_model(model, bundle.engine_path(role))


def with_precision(manifest: Manifest, precision: Precision) -> Manifest:
    """The manifest with another precision of the UNet, and of its part for DeepCache."""
    unets = {role: spec for role, spec in manifest.engines.items() if role in ("unet", "unet_cached")}
    changed = {role: replace(spec, precision=precision) for role, spec in unets.items()}
    return replace(manifest, engines=manifest.engines | changed)


def replace_model(model: Any, path: Path) -> None:
    """Replace an OpenVINO model. Its weights may still be mapped into memory, and are not written over."""
    for old in (path, path.with_suffix(".bin")):
        old.unlink()
    import_openvino().save_model(model, path, compress_to_fp16=False)


def calibrate_once(path: Path) -> Any:
    """A UNet in int8 that is calibrated with one call, to measure its time; its images are not those of the model.

    Args:
        path: of the OpenVINO model in fp32. Reference outputs lie beside it.
    """
    inputs, outputs = read_reference_outputs(path.with_name(REFERENCE_OUTPUTS))
    model = import_openvino().Core().read_model(path)
    return calibrate(model, [Call(inputs, outputs["out_sample"])], layers_by_kind(model))
