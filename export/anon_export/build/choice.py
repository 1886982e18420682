"""The choice of a target by measurement: a part of the model's UNet, on each library that processors have.

Only targets that compute the same image are chosen. What bf16 and int8 would save is measured beside them, and said.
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from anon_runtime.backends.base import load_engine
from anon_runtime.backends.processor import multiplies_bf16, processor_name
from anon_runtime.bundle.manifest import Choice
from anon_runtime.diffusion.text_encoder import WINDOW
from anon_runtime.types import Arrays, Engine

from ..extras import EXTRAS, is_installed
from ..generator import generator_spec
from ..graphs.options import Precision
from ..targets import TARGETS, TargetName
from .options import BuildOptions
from .plan import locate_model, read_bundle

ON_PROCESSORS: tuple[TargetName, ...] = ("onnxruntime", "openvino")
LEVELS = 2  # the topmost ones, whose images are the largest
TURNS = 3
Report = Callable[[str, str], object]  # a component, and what happens to it


@dataclass(frozen=True)
class Candidate:
    """A way to run the UNet: a target and a precision, see `BuildOptions`."""

    target: TargetName
    precision: Precision

    @property
    def name(self) -> str:
        """Both, as messages and the manifest have them."""
        return f"{self.target} {self.precision}"


def choose_target(options: BuildOptions, report: Report = lambda _component, _state: None) -> BuildOptions:
    """Choose the target that runs the model's UNet fastest on this machine, without a change of the images.

    The candidates compute the two topmost levels of the UNet with one layer each, for a guidance batch with two windows
    of text, in turns. The weights are random: they do not change the time. A bundle whose target was chosen on the same
    processor with the same packages keeps it.

    Args:
        options: of the build; the target in them does not count.
        report: called with what happens.

    Returns:
        The options with the target, and what was measured.

    Raises:
        AnonError: the model cannot be found, or the options are invalid.
        Exception: of the libraries, if none of the candidates that keep the images can run here.
    """
    if options.reduced:
        return replace(options, target="openvino")  # no other target has them
    installed = [name for name in ON_PROCESSORS if is_installed(TARGETS[name].package)]
    for name in installed:
        replace(options, target=name).check()
    if len(installed) < 2:
        missing = ", ".join(name for name in ON_PROCESSORS if name not in installed)
        report("target", f"onnxruntime, as this is not installed: {missing}")
        return replace(options, target="onnxruntime")
    candidates = list_candidates(options)
    machine = describe_machine(candidates)
    if (known := _earlier_choice(options, machine, candidates)) is not None:
        report("target", f"{known.target}, as before")
    else:
        seconds = _measure_candidates(candidates, options, report)
        exact = [known for known in candidates if known.precision == options.precision and known.name in seconds]
        known = Choice(min(exact, key=lambda candidate: seconds[candidate.name]).target, machine, seconds)
    target = next(name for name in ON_PROCESSORS if name == known.target)
    return replace(options, target=target, choice=known)


def _earlier_choice(options: BuildOptions, machine: str, candidates: Sequence[Candidate]) -> Choice | None:
    """The choice in the bundle that is there already, if it was made on this machine between the same candidates."""
    old = read_bundle(options.folder)
    choice = None if old is None else old.manifest.choice
    if choice is None or choice.machine != machine or choice.target not in ON_PROCESSORS:
        return None
    return choice if set(choice.seconds) <= {candidate.name for candidate in candidates} else None


def _measure_candidates(candidates: Sequence[Candidate], options: BuildOptions, report: Report) -> dict[str, float]:
    """The seconds of each candidate by name, for a part of the model's UNet; one that cannot run here has none."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = locate_model(options, folder)
        latent_shape = generator_spec(model, options.height, options.width).latent_shape
        config = shrink(model.config("unet"))
        inputs = make_inputs(latent_shape, config["cross_attention_dim"])
        networks = Networks(config, latent_shape, options, folder)
        engines: dict[str, Engine] = {}
        failed: list[Exception] = []
        for candidate in candidates:
            report("target", f"preparing {candidate.name}")
            try:
                engine = make_engine(candidate, networks)
                engine(inputs)
            except Exception as error:  # noqa: BLE001 - the libraries' exceptions share no base class
                failed.append(error)
                report("target", f"{candidate.name} is left out: {type(error).__name__}: {error}".splitlines()[0])
            else:
                engines[candidate.name] = engine
        if not any(candidate.name in engines for candidate in candidates if candidate.precision == options.precision):
            raise failed[0]
        report("target", "measuring")
        return measure(engines, inputs)


def list_candidates(options: BuildOptions) -> list[Candidate]:
    """The targets with the user's precision; and, to compare with fp32, what else OpenVINO can do on this machine."""
    found = [Candidate(target, options.precision) for target in ON_PROCESSORS]
    if options.precision != "fp32":
        return found
    nncf, bf16 = all(map(is_installed, EXTRAS["int8"])), multiplies_bf16()
    others: dict[Precision, bool] = {"bf16": bf16, "int8": nncf, "int8-bf16": nncf and bf16}
    return found + [Candidate("openvino", precision) for precision, possible in others.items() if possible]


def describe_machine(candidates: Sequence[Candidate]) -> str:
    """The processor and the packages that a measurement is valid for."""
    tools: dict[str, str] = {}
    for candidate in candidates:
        tools |= TARGETS[candidate.target].tools()
        if candidate.precision.startswith("int8"):
            tools["nncf"] = version("nncf")
    return ", ".join([processor_name(), *(f"{name} {number}" for name, number in tools.items())])


def shrink(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a UNet with the topmost levels of another one, and one layer for each of them.

    Args:
        config: of diffusers' ``UNet2DConditionModel``.
    """

    def cut(value: Any) -> Any:
        return value[:LEVELS] if isinstance(value, (list, tuple)) else value

    by_level = ("block_out_channels", "down_block_types", "attention_head_dim", "num_attention_heads")
    small = {**config, **{name: cut(config[name]) for name in by_level if name in config}}
    return small | {"up_block_types": config["up_block_types"][-LEVELS:], "layers_per_block": 1}


@dataclass
class Networks:
    """The files of the candidates' engines, with random weights; each is written once, as a build would.

    Attributes:
        config: of diffusers' ``UNet2DConditionModel``.
        latent_shape: channels, height, width.
        options: of the build.
        folder: that they are written into.
    """

    config: Mapping[str, Any]
    latent_shape: tuple[int, int, int]
    options: BuildOptions
    folder: Path

    @cached_property
    def onnxruntime(self) -> Path:
        """For onnxruntime."""
        return self._write(replace(self.options, target="onnxruntime"))

    @cached_property
    def openvino(self) -> Path:
        """For OpenVINO, which converts it to bf16 itself."""
        return self._write(replace(self.options, target="openvino"))

    @cached_property
    def int8(self) -> Path:
        """For OpenVINO, in int8."""
        from ..quantization.bundle import calibrate_once, replace_model

        path = shutil.copytree(self.openvino.parent, self.folder / "int8") / self.openvino.name
        replace_model(calibrate_once(self.openvino), path)
        return path

    def _write(self, options: BuildOptions) -> Path:
        import torch
        from diffusers import UNet2DConditionModel

        from ..graphs.stable_diffusion import export_unet

        own = replace(options, deepcache=False, cache_branch=None)
        torch.manual_seed(0)
        network = UNet2DConditionModel.from_config(dict(self.config))
        path = self.folder / own.target / "model.onnx"
        spec = export_unet(network, path, self.latent_shape, own.graph_options["unet"])
        return Path(TARGETS[own.target].convert(spec, {}, None).path)


def make_engine(candidate: Candidate, networks: Networks) -> Engine:
    """Build and load one candidate's engine."""
    if candidate.target == "onnxruntime":
        path = networks.onnxruntime
    else:
        path = networks.int8 if candidate.precision.startswith("int8") else networks.openvino
    return load_engine(candidate.target, path, "cpu", precision=candidate.precision)


def make_inputs(latent_shape: tuple[int, int, int], width: int) -> Arrays:
    """The inputs of a UNet for an image with guidance and two windows of text."""
    rng = np.random.default_rng(0)
    return {
        "sample": rng.standard_normal((2, *latent_shape)).astype(np.float32),
        "timestep": np.asarray(417.25, np.float32),
        "encoder_hidden_states": rng.standard_normal((2, 2 * WINDOW, width)).astype(np.float32),
    }


def measure(engines: Mapping[str, Engine], inputs: Arrays) -> dict[str, float]:
    """The median seconds of a call of each engine. They take turns, after a call that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in engines}
    for turn in range(TURNS + 1):
        for name, engine in engines.items():
            start = time.perf_counter()
            engine(inputs)
            if turn:
                taken[name].append(time.perf_counter() - start)
    return {name: median(seconds) for name, seconds in taken.items()}
