"""Weights stored in half precision, with arithmetic in single precision: half the file size, and no overflow.

onnxruntime and OpenVINO evaluate the parts of a graph that depend only on constants when they load it. They convert
the weights to single precision then.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SMALLEST = 1024  # values; smaller tensors gain nothing


def store_as_fp16(model: onnx.ModelProto) -> int:
    """Store large fp32 weights as fp16, each with a node that casts it back to fp32; returns their number.

    Args:
        model: with its weights in memory; changed in place.
    """
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor) if tensor.data_type == TensorProto.FLOAT else np.empty(0)
        # Values beyond fp16 stay fp32, such as the mask of CLIP's attention, which holds the lowest number of fp32.
        if values.size < SMALLEST or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        wide, narrow = tensor.name, f"{tensor.name}.half"
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), narrow))
        casts.append(helper.make_node("Cast", [narrow], [wide], f"{wide}.cast", to=TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
    return len(casts)
