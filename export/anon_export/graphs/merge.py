"""Two graphs that begin with the same layers -> one graph that computes these layers once."""

import hashlib
from typing import Any

import onnx


def merge_graphs(
    first: onnx.ModelProto, second: onnx.ModelProto, *, at_least: tuple[str, int]
) -> onnx.ModelProto | None:
    """Merge two graphs with the same single input into one that does equal computations once.

    Nodes are equal if they apply the same operator to equal inputs. Weights are equal if all their bytes are.

    Args:
        first, second: graphs; both are changed, and ``first`` is returned.
        at_least: the type and number of nodes that have to be equal; otherwise None is returned.
    """
    graph = first.graph
    renamed = {second.graph.input[0].name: graph.input[0].name}
    weights = {_content(tensor): tensor.name for tensor in graph.initializer}
    for tensor in second.graph.initializer:
        content = _content(tensor)
        if content not in weights:
            weights[content] = f"second.{tensor.name}"
            graph.initializer.append(tensor)
            graph.initializer[-1].name = weights[content]
        renamed[tensor.name] = weights[content]
    done = {_computation(node): node for node in graph.node}
    outputs = {output.name for output in second.graph.output}
    equal = 0
    for node in second.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        twin = done.get(_computation(node))
        if twin is not None and not outputs & set(node.output):
            renamed |= dict(zip(node.output, twin.output, strict=True))
            equal += node.op_type == at_least[0]
            continue
        fresh = [name if name in outputs else f"second.{name}" for name in node.output]
        renamed |= dict(zip(node.output, fresh, strict=True))
        node.output[:] = fresh
        node.name = f"second.{node.name}"
        graph.node.append(node)
    del graph.value_info[:]
    graph.output.extend(second.graph.output)
    return first if equal >= at_least[1] else None


def _content(tensor: onnx.TensorProto) -> tuple[Any, ...]:
    data = onnx.numpy_helper.to_array(tensor)
    return tensor.data_type, data.shape, hashlib.sha256(data.tobytes()).digest()


def _computation(node: onnx.NodeProto) -> tuple[Any, ...]:
    attributes = tuple(sorted(attribute.SerializeToString() for attribute in node.attribute))
    return node.op_type, node.domain, tuple(node.input), attributes
