"""A bundle with an exact UNet -> the same bundle with a quantized one, and the measured damage."""

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
COMPARED_CALLS = 116  # that are compared one by one: those of two images of 15 steps


def quantize_bundle(
    bundle: Bundle, precision: Precision, calibration_images: int, check_images: int, report: Report
) -> Manifest:
    """Quantize the UNet of a bundle in its place, and measure what that costs.

    The exact UNet runs the whole loop for random prompts. Its calls calibrate the quantized one; its images and calls
    for other prompts are what the quantized one is compared with.

    Args:
        bundle: of OpenVINO models in fp32, that nobody else uses.
        precision: ``int8`` or ``int8-weights``.
        calibration_images, check_images: numbers of images.
        report: called with what happens.

    Returns:
        The manifest, with the engines and the damage of the quantized UNet.

    Raises:
        AnonError: the quantized UNet is too far from the exact one.
    """
    openvino = import_openvino()
    path = bundle.engine_path("unet")
    requests = write_requests(check_images, CHECK_SEED)
    unet = load_engine("openvino", path)
    calls = record_calls(bundle, unet, write_requests(calibration_images, CALIBRATION_SEED), report)
    recorder = Recorder(unet, COMPARED_CALLS)
    exact = generate_images(bundle, recorder, requests, report)
    compared = recorder.calls
    del unet, recorder  # their memory is needed for what follows
    model = openvino.Core().read_model(path)
    quantized, float_layers = quantize(model, calls, precision, report)
    manifest = put_unet(bundle, quantized, precision)
    del model, quantized
    report("comparing")
    unet = load_engine("openvino", path)
    images = generate_images(bundle, unet, requests, report)
    damage = measure_damage(bundle, unet, compared, images, exact, float_layers)
    check_damage(damage)
    return replace(manifest, damage=damage)


def put_unet(bundle: Bundle, unet: Any, precision: Precision) -> Manifest:
    """Put a UNet in the place of a bundle's, and its part for DeepCache; returns the manifest with their precision."""
    engines = dict(bundle.manifest.engines)
    made = {"unet": unet, "unet_cached": cut_cached(unet)} if "unet_cached" in engines else {"unet": unet}
    for role, model in made.items():
        replace_model(model, bundle.engine_path(role))
        engines[role] = replace(engines[role], precision=precision)
    return replace(bundle.manifest, engines=engines)


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
