"""ONNX graphs -> TensorRT engines, by TensorRT itself or by TensorRT for RTX, which needs no GPU to build."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from anon_runtime.backends.base import cache_folder
from anon_runtime.backends.cuda import Cuda
from anon_runtime.backends.tensorrt import import_tensorrt, listen
from anon_runtime.bundle.manifest import EngineSpec
from anon_runtime.errors import AnonError, UsageError

from .shapes import Range, profile_shapes

# TensorRT for RTX builds for GPUs of other machines, too: for the RTX 40 series if the user names none.
RTX_DEFAULT = "sm_89"
FIX = "report the model and the version of TensorRT, or build for `target` onnxruntime"


def architecture(target: str, wanted: str | None) -> str:
    """The GPU architecture to build for, such as ``sm_89``.

    Raises:
        AnonError: TensorRT finds no GPU, or cannot build for the one that was named.
    """
    if target == "tensorrt-rtx":
        known = [name for name in dir(import_tensorrt(target).ComputeCapability) if name.startswith("SM")]
        name = wanted or RTX_DEFAULT
        if name.upper().replace("_", "") not in known:
            choices = ", ".join(sorted(f"sm_{kind[2:]}" for kind in known))
            raise UsageError(f"`gpu` {name}", "TensorRT for RTX does not build for it", f"use one of: {choices}")
        return name
    here = Cuda().architecture()
    if wanted not in (None, here):
        why = f"TensorRT builds for the GPU that it runs on, which is {here}"
        raise UsageError(f"`gpu` {wanted}", why, "leave it out, or build on the other machine")
    return here


def convert(target: str, spec: EngineSpec, ranges: Mapping[str, Range], gpu: str | None) -> EngineSpec:
    """Build an engine beside a graph and remove the graph.

    Networks are strongly typed: every operator has the precision that the graph gives it. An engine runs on one GPU
    architecture, with one version of TensorRT and one profile of shapes.

    Raises:
        AnonError: TensorRT does not parse or build the graph.
    """
    trt = import_tensorrt(target)
    graph = Path(spec.path)
    logger, errors = listen(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        reasons = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise AnonError(f"the {spec.signature} graph", f"TensorRT does not parse it ({reasons})", FIX)
    config = builder.create_builder_config()
    # TF32 keeps 10 of fp32's 23 bits, and its errors would exceed the bounds of `verify`.
    config.clear_flag(trt.BuilderFlag.TF32)
    _add_profile(builder, config, spec, ranges)
    if target == "tensorrt-rtx":
        config.num_compute_capabilities = 1
        # The runtime allocates memory itself: otherwise runs could not be captured in a CUDA graph.
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
        config.set_compute_capability(getattr(trt.ComputeCapability, str(gpu).upper().replace("_", "")), 0)
    with _timing_cache(config, f"{target}-{trt.__version__}-{gpu}"):
        serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        why = f"TensorRT does not build it ({'; '.join(errors)})"
        raise AnonError(f"the {spec.signature} engine", why, FIX)
    path = graph.with_name("model.plan")
    path.write_bytes(serialized)
    for old in (graph, graph.with_name(f"{graph.name}.data")):
        old.unlink(missing_ok=True)
    return replace(spec, path=path.as_posix())


def _add_profile(builder: Any, config: Any, spec: EngineSpec, ranges: Mapping[str, Range]) -> None:
    profile = builder.create_optimization_profile()
    for tensor in spec.inputs:
        profile.set_shape(tensor.name, *profile_shapes(tensor.shape, ranges))
    if config.add_optimization_profile(profile) < 0:
        raise AnonError(f"the {spec.signature} engine", "TensorRT does not take its ranges of shapes", FIX)


@contextmanager
def _timing_cache(config: Any, name: str) -> Iterator[None]:
    """Give TensorRT the times that it measured on this GPU before, and save the new ones after the build."""
    path = cache_folder() / f"{name}.timing"
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    yield
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(config.get_timing_cache().serialize())
