"""Which layers of a UNet stay in float: those of kinds that are known to suffer, and those that a scan finds."""

from collections.abc import Callable, Sequence
from typing import Any

MOVES = ("Reshape", "Squeeze", "Transpose", "Unsqueeze")  # operators that only move data
MOST_ERROR = 0.1  # share of the squared error of all layers; a layer that causes more stays in float


def layers_by_kind(model: Any) -> list[str]:
    """The layers that stay in float in every UNet. They are few, and cost little time.

    These are the first and the last convolution, all products of time embeddings, and the shortcuts of residual
    blocks. On the demo, the shortcuts caused two fifths of the whole squared error.

    Args:
        model: an OpenVINO model of a UNet in fp32.
    """
    layers = [node for node in model.get_ordered_ops() if node.get_type_name() in ("Convolution", "MatMul")]
    convolutions = [node for node in layers if node.get_type_name() == "Convolution"]
    kept = {convolutions[0].get_friendly_name(), convolutions[-1].get_friendly_name()}
    for node in layers:
        data, weights = (node.input_value(k).get_partial_shape() for k in (0, 1))
        of_time = node.get_type_name() == "MatMul" and len(data) == 2
        shortcut = node.get_type_name() == "Convolution" and list(weights)[2:] == [1, 1] and weights[0] != weights[1]
        if of_time or shortcut:
            kept.add(node.get_friendly_name())
    return sorted(kept)


def quantized_layers(model: Any) -> list[str]:
    """The convolutions and matrix products of a model whose inputs are quantized, in their order."""
    return [
        node.get_friendly_name()
        for node in model.get_ordered_ops()
        if node.get_type_name() in ("Convolution", "MatMul") and _quantized_input(node) is not None
    ]


def restore(quantized: Any, exact: Any, names: Sequence[str]) -> Any:
    """A copy of a quantized model with some layers in float; their weights are those of the exact model itself."""
    model, chosen = quantized.clone(), set(names)
    originals = {node.get_friendly_name(): node for node in exact.get_ops() if node.get_friendly_name() in chosen}
    for node in model.get_ops():
        if (original := originals.get(node.get_friendly_name())) is not None:
            if (port := _quantized_input(node)) is not None:
                port.replace_source_output(port.get_source_output().get_node().input_value(0))
            node.input(1).replace_source_output(original.input_value(1))
    return model


def _quantized_input(layer: Any) -> Any:
    """The input that takes the quantized data of a layer, of the layer itself or of what moves its data; or None."""
    port = layer.input(0)
    while (source := port.get_source_output().get_node()).get_type_name() in MOVES:
        port = source.input(0)
    return port if source.get_type_name() == "FakeQuantize" else None


def find_sensitive(layers: Sequence[str], share: Callable[[Sequence[str]], float], bound: float) -> list[str]:
    """The layers that cause more than a bound of the error, found by halving groups that do.

    Args:
        layers: to search.
        share: the share of the squared error that ends if some layers are in float. Errors of layers nearly add up,
            so that a group without a sensitive layer seldom exceeds the bound, and is then halved in vain.
        bound: of the share of one layer.
    """
    if not layers or share(layers) <= bound:
        return []
    if len(layers) == 1:
        return list(layers)
    middle = len(layers) // 2
    return find_sensitive(layers[:middle], share, bound) + find_sensitive(layers[middle:], share, bound)
