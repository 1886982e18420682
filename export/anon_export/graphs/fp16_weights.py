"""Weights stored in half precision, arithmetic in full: half the file, and no overflow.

A runtime that computes what depends on constants alone when it loads a graph, as onnxruntime and OpenVINO do, widens
the weights then.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SMALLEST = 1024  # values; smaller tensors gain nothing


def store_as_fp16(model: onnx.ModelProto) -> int:
    """Store large fp32 weights as fp16, as far as it reaches, each with a node that widens it; returns how many.

    Args:
        model: with its weights in memory; changed in place.
    """
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor) if tensor.data_type == TensorProto.FLOAT else np.empty(0)
        # The mask of CLIP's attention is made of fp32's lowest number: what half precision cannot say stays as it is.
        if values.size < SMALLEST or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        wide, narrow = tensor.name, f"{tensor.name}.half"
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), narrow))
        casts.append(helper.make_node("Cast", [narrow], [wide], f"{wide}.cast", to=TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
    return len(casts)
