"""OpenVINO models of a UNet -> quantized ones, by NNCF."""

import logging
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from typing import Any

import numpy as np

from anon_runtime.backends.openvino import import_openvino, no_telemetry
from anon_runtime.types import Arrays

from ..comparison import relative_rms
from ..graphs.options import Precision
from .float_layers import MOST_ERROR, find_sensitive, layers_by_kind, quantized_layers, restore
from .recording import Call, Report

SCAN_CALLS = 6  # for each measurement of the scan; spread over all noise levels


def quantize(exact: Any, calls: Sequence[Call], precision: Precision, report: Report) -> tuple[Any, list[str]]:
    """Quantize a UNet.

    With ``int8``, convolutions and linear layers get weights and activations of 8 bits, but for layers that are known
    to be sensitive and for those that a scan finds, see `float_layers`. Biases are corrected for the mean error
    (Nagel et al., 2019). SmoothQuant (Xiao et al., 2023) is left out: on the demo, it makes images worse.

    Args:
        exact: an OpenVINO model in fp32.
        calls: of the UNet, to calibrate with.
        precision: ``int8`` or ``int8-bf16``; or ``int8-weights`` for weights only, with arithmetic in fp32.
        report: called with what happens.

    Returns:
        The quantized model, and the names of its layers that are in float.
    """
    if precision == "int8-weights":
        nncf = import_nncf()
        report("quantizing")
        return _quiet(partial(nncf.compress_weights, exact.clone(), mode=nncf.CompressWeightsMode.INT8_ASYM)), []
    kept = layers_by_kind(exact)
    report("quantizing")
    quantized = calibrate(exact, calls, kept)
    layers = quantized_layers(quantized)
    spread = [calls[k] for k in np.linspace(0, len(calls) - 1, min(SCAN_CALLS, len(calls)), dtype=int)]
    share = _make_share(quantized, exact, spread, report)
    sensitive = find_sensitive(layers, share, MOST_ERROR)
    if sensitive:
        report("quantizing again")
        kept = sorted({*kept, *sensitive})
        quantized = calibrate(exact, calls, kept)
    return quantized, kept


def cut_cached(unet: Any) -> Any:
    """The part of a UNet's model that computes ``out_sample`` from its inputs and ``deep``, as a model of its own."""
    openvino = import_openvino()
    from openvino import opset13 as opset

    model = unet.clone()
    results = {result.get_output_tensor(0).get_any_name(): result for result in model.get_results()}
    source = results["deep"].input_value(0)
    deep = opset.parameter(source.get_partial_shape(), np.float32, "deep")
    deep.output(0).set_names({"deep"})
    for target in source.get_target_inputs():
        target.replace_source_output(deep.output(0))
    return openvino.Model([results["out_sample"]], [*model.get_parameters(), deep], "unet_cached")


def calibrate(exact: Any, calls: Sequence[Call], kept: Sequence[str]) -> Any:
    """A model with weights and activations of 8 bits; see `quantize`.

    Args:
        exact: an OpenVINO model in fp32.
        calls: to calibrate with.
        kept: the names of the layers that stay in float.
    """
    nncf = import_nncf()
    inputs: list[Arrays] = [call.inputs for call in calls]
    return _quiet(
        partial(
            nncf.quantize,
            exact.clone(),
            nncf.Dataset(inputs),
            subset_size=len(inputs),
            model_type=nncf.ModelType.TRANSFORMER,
            ignored_scope=nncf.IgnoredScope(names=list(kept), types=["ScaledDotProductAttention"]),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=-1)
            ),
        )
    )


def _make_share(quantized: Any, exact: Any, calls: Sequence[Call], report: Report) -> Callable[[Sequence[str]], float]:
    """A function of names of layers: the share of the squared error that ends if they are in float."""
    core, count = import_openvino().Core(), 0

    def squared_error(names: Sequence[str]) -> float:
        nonlocal count
        count += 1
        report(f"looking for sensitive layers, measurement {count}")
        model = restore(quantized, exact, names)
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return float(np.mean([relative_rms(compiled(call.inputs)["out_sample"], call.output) ** 2 for call in calls]))

    everything = squared_error([])
    return lambda names: (everything - squared_error(names)) / max(everything, 1e-24)


def import_nncf() -> Any:
    """The module ``nncf``, quiet and without telemetry."""
    with no_telemetry():
        import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf


def _quiet(call: Callable[[], Any]) -> Any:
    """Call NNCF, which draws bars of its own on standard output."""
    with redirect_stdout(StringIO()):
        return call()
