"""TensorRT for RTX builds the engines of a bundle, without a GPU: time, memory, size, and what the plans hold.

    python -m benchmarks.tensorrt_plans --out OUT                 # Stable Diffusion 1.5's sizes, random weights
    python -m benchmarks.tensorrt_plans --out OUT --small         # the demo's model, to try the script

The graphs are exported once, with text encoder and UNet in fp16, the VAE's decoder in fp32, and what DeepCache needs.
Every plan is built in a process of its own. OUT gets `plans.json` and `plans.md` after each of them.

A plan cannot be loaded without a GPU, and so TensorRT's inspector cannot be asked. But at the end of a build, the
builder lists the layers of the plan with the types of their inputs and outputs in its most detailed messages.
"""

import argparse
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, TypeVar, get_args
from unittest.mock import patch

from tqdm import tqdm

from anon_runtime.backends.tensorrt import import_tensorrt
from anon_runtime.bundle.manifest import EngineSpec

from .command_line import one_line_errors
from .contenders import peak_memory

with one_line_errors(__name__, extras="export,tensorrt-rtx"):
    from anon_export.build.options import BuildOptions, FaceNetworks
    from anon_export.build.staging import link
    from anon_export.targets.shapes import Range
    from anon_export.targets.tensorrt import architecture, convert

T = TypeVar("T")
TARGET: Final = "tensorrt-rtx"
GPUS = "sm_89,sm_120"
PRODUCTS = ("CONVOLUTION", "DECONVOLUTION", "EINSUM", "MATRIX_MULTIPLY")
# The builder's names for matrix products, convolutions, and matrix products with what follows them.
PLAN_PRODUCTS = ("gemm", "fully_connected", "correlation", "runtime_fusion")
FUSED_ATTENTION = re.compile("mha", re.IGNORECASE)
LIST_OF_LAYERS = "Layers:\n"
LAYER = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*?)\], Constants: \[.*?\], "
    r"Outputs: \[(?P<outputs>.*?)\], TacticName: ",
    re.MULTILINE,
)
DATATYPE = re.compile(r"Datatype: (\w+)")


@dataclass(frozen=True)
class Layer:
    """A layer of a network or of a plan.

    Attributes:
        product: it is a matrix product or a convolution.
        attention: a whole attention in a plan; in a network, the softmax that each attention has.
        inputs, outputs: names of their types, such as ``HALF``, without weights.
    """

    product: bool
    attention: bool
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Contents:
    """Numbers of layers.

    Attributes:
        layers: all of them.
        with_fp16: those that take or return fp16.
        products: matrix products and convolutions.
        fp16_products: those that take nothing but fp16.
        attentions: see `Layer`.
    """

    layers: int
    with_fp16: int
    products: int
    fp16_products: int
    attentions: int

    @classmethod
    def count(cls, layers: Iterable[Layer]) -> "Contents":
        """Count layers."""
        all_layers = list(layers)
        products = [layer for layer in all_layers if layer.product]
        return cls(
            len(all_layers),
            sum("HALF" in layer.inputs + layer.outputs for layer in all_layers),
            len(products),
            sum(set(layer.inputs) == {"HALF"} for layer in products),
            sum(layer.attention for layer in all_layers),
        )

    def has(self, precision: str) -> bool:
        """Whether the arithmetic is in ``fp16`` where most of it is, or ``fp32`` everywhere."""
        return self.fp16_products == self.products if precision == "fp16" else self.with_fp16 == 0


@dataclass(frozen=True)
class Built:
    """A plan that was built.

    Attributes:
        role: of the engine.
        gpu: the architecture that it was built for.
        precision: that of the graph.
        seconds: from reading the graph to writing the plan.
        size: of the plan, in MB.
        peak: most resident memory of the process, in GB.
        network: what the graph holds, as TensorRT has parsed it. Its types bind the plan.
        plan: what the plan holds, as the builder lists it.
    """

    role: str
    gpu: str
    precision: str
    seconds: float
    size: float
    peak: float
    network: Contents
    plan: Contents

    @property
    def as_meant(self) -> bool:
        """Whether network and plan have the precision of the graph."""
        return self.network.has(self.precision) and self.plan.has(self.precision)


def export(model: str, faces: FaceNetworks, graphs: Path) -> dict[str, tuple[EngineSpec, dict[str, Range]]]:
    """Export the graphs of a bundle, and return them by role with the ranges of their free dimensions.

    Args:
        model: a folder in diffusers' layout, or ``demo``.
        faces: networks that read faces.
        graphs: an empty folder for the graphs.
    """
    from anon_export.build.plan import prepare  # late: processes that build plans do without torch

    options = BuildOptions(model, "plans", graphs, faces, TARGET, "fp16", deepcache=True)
    specs: dict[str, EngineSpec] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for step in prepare(options, Path(scratch)).steps:
            specs |= step.component.export(graphs / step.component.name)
    return {role: (spec, options.shapes.ranges(spec)) for role, spec in specs.items()}


def build(role: str, spec: EngineSpec, ranges: Mapping[str, Range], gpu: str, folder: Path) -> Built:
    """Build a plan in a folder; the graph is kept."""
    graph, copy = Path(spec.path), folder / "model.onnx"
    for end in ("", ".data"):  # the plan replaces the copy of the graph
        if graph.with_name(graph.name + end).exists():
            link(graph.with_name(graph.name + end), copy.with_name(copy.name + end))
    seen: dict[str, Contents] = {}
    trt = import_tensorrt(TARGET)
    with patch.object(trt, "Builder", watched_builder(trt, seen)):
        start = time.perf_counter()
        made = convert(TARGET, replace(spec, path=copy.as_posix()), ranges, gpu)
        seconds = time.perf_counter() - start
    size = Path(made.path).stat().st_size / 1e6
    return Built(role, gpu, spec.precision, seconds, size, peak_memory() / 1e9, seen["network"], seen["plan"])


def watched_builder(trt: Any, seen: dict[str, Contents]) -> type:
    """A builder class of TensorRT that also says what the network and the plan hold.

    Args:
        trt: the module of TensorRT.
        seen: gets the contents as ``network`` and ``plan``.
    """

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self, other: Any) -> None:
            trt.ILogger.__init__(self)
            self._other = other

        def log(self, severity: Any, message: str) -> None:
            self._other.log(severity, message)
            if message.startswith(LIST_OF_LAYERS):
                seen["plan"] = Contents.count(plan_layers(message))

    class Builder(trt.Builder):  # type: ignore[misc]
        def __init__(self, logger: Any) -> None:
            self._own_logger = Logger(logger)  # TensorRT does not keep it alive
            super().__init__(self._own_logger)

        def create_builder_config(self) -> Any:
            config = super().create_builder_config()
            config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # otherwise only names are listed
            return config

        def build_serialized_network(self, network: Any, config: Any) -> Any:
            seen["network"] = Contents.count(network_layers(network))
            return super().build_serialized_network(network, config)

    return Builder


def network_layers(network: Any) -> Iterable[Layer]:
    """The layers of a network. All types are those of the graph, since networks are strongly typed."""
    for layer in map(network.get_layer, range(network.num_layers)):
        inputs = [layer.get_input(i) for i in range(layer.num_inputs)]
        outputs = [layer.get_output(i) for i in range(layer.num_outputs)]
        types = [tuple(tensor.dtype.name for tensor in side if tensor is not None) for side in (inputs, outputs)]
        yield Layer(layer.type.name in PRODUCTS, layer.type.name == "SOFTMAX", *types)


def plan_layers(message: str) -> Iterable[Layer]:
    """The layers of a plan, from the builder's message that lists them."""
    for found in LAYER.finditer(message):
        attention = bool(FUSED_ATTENTION.search(found["name"]))
        types = [tuple(kind.upper() for kind in DATATYPE.findall(found[side])) for side in ("inputs", "outputs")]
        yield Layer(attention or found["kind"] in PLAN_PRODUCTS, attention, *types)


def in_new_process(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in a process of its own, which begins with no memory of this one's."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def run(
    folder: Path, out: Path, gpus: Sequence[str], *, small: bool = False, faces: FaceNetworks = "none"
) -> list[Built]:
    """Export the graphs, build every plan, and write what is known after each of them.

    Args:
        folder: for the model, which is kept for the next run, and for files that are not kept.
        out: the folder for ``plans.json`` and ``plans.md``.
        gpus: architectures, such as ``sm_89``.
        small: use the demo's model.
        faces: networks that read faces, whose plans are built, too.

    Raises:
        AnonError: TensorRT does not build for such a GPU, or does not build a graph.
    """
    gpus = [architecture(TARGET, gpu) for gpu in gpus]
    for needed in (folder, out):
        needed.mkdir(parents=True, exist_ok=True)
    results: list[Built] = []
    with tempfile.TemporaryDirectory(dir=folder) as graphs:
        model = "demo" if small else str(in_new_process(full_size_model, folder / "model"))
        engines = in_new_process(export, model, faces, Path(graphs))
        for gpu, role in tqdm([(gpu, role) for gpu in gpus for role in engines], desc="plans"):
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                results.append(in_new_process(build, role, *engines[role], gpu, Path(scratch)))
            (out / "plans.json").write_text(json.dumps([*map(asdict, results)], indent=2), encoding="utf-8")
            (out / "plans.md").write_text("\n".join(table(results)) + "\n", encoding="utf-8")
    return results


def full_size_model(path: Path) -> Path:
    """Write a model of Stable Diffusion 1.5's sizes, if it is not there."""
    from .full_size import write_model

    if not (path / "model_index.json").exists():
        write_model(path)
    return path


def table(results: Sequence[Built]) -> list[str]:
    """The results in Markdown."""
    names = "engine | precision | GPU | build | plan | peak memory | operators -> layers"
    names += " | products in fp16, graph | plan | attention in one kernel | precision as meant"
    lines = [f"| {names} |", "|---" * (names.count("|") + 1) + "|"]
    for own in results:
        network, plan = own.network, own.plan
        cells = (
            f"{own.role} | {own.precision} | {own.gpu}",
            f"{own.seconds:.1f} s | {own.size:.1f} MB | {own.peak:.2f} GB | {network.layers} -> {plan.layers}",
            f"{network.fp16_products} of {network.products} | {plan.fp16_products} of {plan.products}",
            f"{plan.attentions} of {network.attentions} | {'yes' if own.as_meant else 'no'}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Build the plans and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--folder", type=Path, help="folder for the model, which is kept; default: OUT/work")
    parser.add_argument("--gpus", default=GPUS, help="architectures, separated by commas; default: %(default)s")
    parser.add_argument("--small", action="store_true", help="use the demo's model")
    parser.add_argument(
        "--faces", choices=get_args(FaceNetworks), default="none", help="networks that read faces; default: %(default)s"
    )
    options = parser.parse_args()
    folder = options.folder or options.out / "work"
    results = run(folder, options.out, options.gpus.split(","), small=options.small, faces=options.faces)
    print("\n".join(table(results)))


if __name__ == "__main__":
    with one_line_errors(__name__, extras="export,tensorrt-rtx"):
        main()
