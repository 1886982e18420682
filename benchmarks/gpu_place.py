"""Where the stages of `gpu` run: the files, the device, and the sessions, engines and networks on it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch

from anon_export.graphs.cuda import in_standard_operators
from anon_export.graphs.export import save_graph
from anon_runtime.backends.base import load_engine
from anon_runtime.backends.engines import Engines
from anon_runtime.backends.onnxruntime import import_onnxruntime
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.types import Engine

from .contenders import Sizes

ROLES = ("text_encoder", "unet", "unet_cached", "vae_decoder")


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

    def session(self, role: str, **options: Any) -> Any:
        """A session of onnxruntime for an engine.

        Args:
            role: of the engine.
            **options: of the CUDA provider, which have no effect in a dry run.
        """
        ort = import_onnxruntime()
        settings = ort.SessionOptions()
        settings.log_severity_level = 3
        cuda = ("CUDAExecutionProvider", {"use_tf32": "0"} | options)
        providers = ["CPUExecutionProvider"] if self.dry else [cuda, "CPUExecutionProvider"]
        session = ort.InferenceSession(self.graph(role), settings, providers=providers, enable_fallback=0)
        if not self.dry and session.get_providers()[0] != cuda[0]:
            raise SkippedError("onnxruntime cannot use the GPU")
        return session

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


def as_engine(session: Any) -> Engine:
    """An engine whose inputs and outputs are copied from and to the memory of the processor."""
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, dict(inputs)), strict=True))
