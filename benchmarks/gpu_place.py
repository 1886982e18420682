"""Where the stages of `gpu` run: the files, the device, and the engines and networks on it."""

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import onnx
import torch

from anon_export.build.builder import build
from anon_export.build.options import BuildOptions
from anon_export.graphs.cuda import in_standard_operators
from anon_export.graphs.export import save_graph
from anon_runtime.backends.base import load_engine
from anon_runtime.backends.buffers import BoundEngine
from anon_runtime.backends.engines import Engines
from anon_runtime.bundle.bundle import Bundle

from .contenders import Sizes


class SkippedError(Exception):
    """A contender or a stage that this machine cannot run; the message is the reason."""


@dataclass(frozen=True)
class Place:
    """Where everything runs.

    Attributes:
        folder: of the model and the bundle, which are kept for the next run.
        device: ``cuda``; ``cpu`` in a dry run.
        repeats: calls that are measured.
    """

    folder: Path
    device: str
    repeats: int

    @property
    def dry(self) -> bool:
        """Whether the processor stands in for the GPU."""
        return self.device == "cpu"

    @property
    def bundle(self) -> Bundle:
        """The bundle for the CUDA provider."""
        return Bundle.read(self.folder / "engines" / "cuda")

    @property
    def sizes(self) -> Sizes:
        """Those of the model."""
        config = json.loads((self.folder / "model" / "unet" / "config.json").read_text())
        return Sizes(self.bundle.manifest.generator.latent_shape, config["cross_attention_dim"])

    def graph(self, role: str) -> Path:
        """The file of an engine; in a dry run, a copy in standard operators."""
        path = self.bundle.engine_path(role)
        if not self.dry:
            return path
        copy = self.folder / "on-processor" / role / path.name
        if not copy.exists():
            save_graph(in_standard_operators(onnx.load(path)), copy)
        return copy

    def engine(self, role: str, target: str = "onnxruntime") -> BoundEngine:
        """An engine on the device; in a dry run, on the processor.

        Args:
            role: of the engine.
            target: ``onnxruntime``, or ``cuda`` for the same with CUDA graphs, or ``tensorrt``, which is built first.

        Raises:
            SkippedError: this machine cannot run it.
        """
        if self.dry:
            if target != "onnxruntime":
                raise SkippedError(f"a processor has no {'CUDA graphs' if target == 'cuda' else 'TensorRT'}")
            return cast(BoundEngine, load_engine(target, self.graph(role), "cpu"))
        if target != "tensorrt":
            return cast(BoundEngine, load_engine(target, self.bundle.engine_path(role), "cuda"))
        if find_spec("tensorrt") is None:
            raise SkippedError("tensorrt is not installed")
        options = BuildOptions(str(self.folder / "model"), target, self.folder / "engines", "none", "tensorrt", "fp16")
        made = build(options)
        return cast(BoundEngine, load_engine(target, made.engine_path(role), gpu=made.manifest.gpu))

    @property
    def with_graphs(self) -> str:
        """The target of `engine` that is onnxruntime with CUDA graphs; in a dry run, onnxruntime."""
        return "onnxruntime" if self.dry else "cuda"

    def engines(self) -> Engines:
        """The bundle's engines as the runtime has them; in a dry run, on the processor."""
        if not self.dry:
            return Engines(self.bundle)
        roles = self.bundle.manifest.engines
        return Engines(
            self.bundle, replaced={role: load_engine("onnxruntime", self.graph(role), "cpu") for role in roles}
        )

    def network(self, half: bool = True) -> Any:
        """diffusers' UNet on the device; in a dry run always in fp32."""
        from diffusers import UNet2DConditionModel

        net = UNet2DConditionModel.from_pretrained(self.folder / "model" / "unet").eval()
        return net.to(self.device, torch.float16 if half and not self.dry else torch.float32)

    def wait(self) -> None:
        """Wait until the GPU has done what PyTorch gave it."""
        if not self.dry:
            torch.cuda.synchronize()

    def used_memory(self) -> int | None:
        """Bytes of the GPU that are in use, by all processes; None in a dry run."""
        if self.dry:
            return None
        free, total = torch.cuda.mem_get_info()
        return int(total - free)
