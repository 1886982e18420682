"""The graphs of the loop on a GPU. That they compute the loop is tested with the bundle, in targets/test_cuda.py."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from anon_export.graphs.loop import export_loop
from anon_runtime.bundle.manifest import EngineSpec
from anon_runtime.diffusion.device_loop import COLUMNS, ROLES
from anon_runtime.types import Arrays

Specs = dict[str, EngineSpec]
BOOL, FLOAT, INT64 = TensorProto.BOOL, TensorProto.FLOAT, TensorProto.INT64
# Types of inputs, axes and indices included, that the CUDA provider has kernels for in opset 20, as far as the loop
# needs them: from onnxruntime's docs/OperatorKernels.md, section CUDAExecutionProvider.
KERNELS = {
    FLOAT: "Abs Add Cast Clip Concat Div Equal Gather Greater Identity LessOrEqual Mul ReduceMin Reshape Round Slice "
    "Split Sub Transpose Where",
    INT64: "Add Cast Concat Equal Gather Identity Mul ReduceMin Reshape Slice",
    BOOL: "Cast Where",
}


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> Specs:
    return export_loop(tmp_path_factory.mktemp("loop"), (4, 6, 8), (3, 24, 32))


@pytest.mark.parametrize("role", ROLES)
def test_every_input_is_used(specs: Specs, role: str) -> None:
    """The exporter takes two inputs for one if their examples are the same tensor."""
    graph = onnx.load(specs[role].path).graph
    used = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in specs[role].inputs} <= used
    assert not any(node.op_type in ("If", "Loop", "Scan") for node in graph.node), "a CUDA graph has no control flow"


@pytest.mark.parametrize("role", ROLES)
def test_the_cuda_provider_has_kernels_for_all_types(specs: Specs, role: str) -> None:
    """A node without one would run on the processor, and a CUDA graph could not be captured."""
    model = onnx.shape_inference.infer_shapes(onnx.load(specs[role].path))
    assert {domain.version for domain in model.opset_import} == {20}
    graph = model.graph
    values = (*graph.input, *graph.value_info, *graph.output)
    kinds = {value.name: value.type.tensor_type.elem_type for value in values}
    kinds |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        for name in node.input:
            assert node.op_type in KERNELS[kinds[name]].split(), node


@pytest.mark.parametrize(("images", "evaluations"), [(1, 1), (3, 7)])
def test_images_and_evaluations_are_free(specs: Specs, images: int, evaluations: int) -> None:
    rng = np.random.default_rng(0)
    names = ("x_in", "base_in", "denoised_in", "positive", "negative")
    inputs: Arrays = {name: rng.standard_normal((images, 4, 6, 8), np.float32) for name in names}
    last = np.array([evaluations - 1], np.int64)
    inputs |= {
        "evaluation_in": last,
        "finite_in": last - 1,
        "noise": rng.standard_normal((evaluations, images, 4, 6, 8), np.float32),
        "table": np.ones((evaluations + 1, len(COLUMNS)), np.float32),
    }
    session = onnxruntime.InferenceSession(specs["scheduler_step"].path, providers=["CPUExecutionProvider"])
    outputs = dict(zip((o.name for o in session.get_outputs()), session.run(None, inputs), strict=True))
    assert outputs["sample"].shape == (2 * images, 4, 6, 8)
    assert outputs["timestep"].shape == ()
    assert outputs["evaluation"] == evaluations
    assert outputs["finite"] == evaluations - 2, "an earlier evaluation was not finite, and nothing is counted after it"


def test_pixels_are_those_of_diffusers(specs: Specs) -> None:
    """`VaeImageProcessor` scales to 0..1, clips, and rounds half to even."""
    diffusers = pytest.importorskip("diffusers")
    torch = pytest.importorskip("torch")
    sample = np.linspace(-1.3, 1.3, 2 * 3 * 24 * 32, dtype=np.float32).reshape(2, 3, 24, 32)
    session = onnxruntime.InferenceSession(specs["postprocess"].path, providers=["CPUExecutionProvider"])
    pixels, checks = session.run(["pixels", "checks"], {"sample": sample, "finite": np.array([7])})
    theirs = diffusers.image_processor.VaeImageProcessor().postprocess(torch.from_numpy(sample), output_type="pil")
    np.testing.assert_array_equal(pixels, np.stack([np.asarray(image) for image in theirs]))
    assert {0, 255} < set(pixels.ravel())
    assert list(checks) == [7, 1]
