"""ONNX graphs -> graphs for onnxruntime's CUDA provider, which run on any NVIDIA GPU."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory

from anon_runtime.backends.base import load_engine
from anon_runtime.bundle.manifest import EngineSpec
from anon_runtime.errors import BackendError
from anon_runtime.types import Engine

from .shapes import Range

ANY_GPU = "any"  # in the place of an architecture


def convert(spec: EngineSpec, _ranges: Mapping[str, Range], _gpu: str | None) -> EngineSpec:
    """Rewrite the graph of a Stable Diffusion network, and convert it to its precision; others stay as they are."""
    from ..graphs.cuda import KINDS, use_cuda_operators

    if spec.signature in KINDS:
        use_cuda_operators(Path(spec.path), spec.signature, half=spec.precision == "fp16")
    return spec


def load_on_processor(path: Path) -> Engine:
    """Load a graph for the CUDA provider on the processor, in standard operators, to compare it with PyTorch."""
    import onnx

    from ..graphs.cuda import in_standard_operators

    # Beside the graph, since both have the same weights.
    with NamedTemporaryFile(dir=path.parent, suffix=path.suffix) as copy:
        onnx.save(in_standard_operators(onnx.load(path, load_external_data=False)), copy.name)
        return load_engine("onnxruntime", Path(copy.name), "cpu")


@cache
def runs_here() -> bool:
    """Whether onnxruntime can run a graph on a GPU of this machine."""
    from onnx import TensorProto, helper, save

    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "nothing", ports[:1], ports[1:])
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
        try:
            load_engine("cuda", path)
        except BackendError:
            return False
    return True
