"""The contenders of a speed comparison: the same networks on different runtimes, each in a process of its own."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, get_args

import numpy as np
from numpy.typing import NDArray

from anon_runtime.backends.openvino import import_openvino
from anon_runtime.faces.attributes import CELEBA
from anon_runtime.types import Arrays, Engine

Floats = NDArray[np.float32]
Call = Callable[[Arrays], "Floats | OwnTime"]
Part = Literal["unet", "vae_decoder"]
PARTS: tuple[Part, ...] = get_args(Part)
BASELINE, OURS, INT8, HALF = "diffusers, eager", "anon-engines", "anon-engines, int8", "anon-engines, int8-bf16"
WINDOWS = 2  # windows of text; the paper's prompts fill two or three
# A portrait of the paper's kind, whose prompts take two windows of text.
PROMPT = "closeup portrait photo of a white 33 woman, Attractive , Smiling , Wavy_Hair , Young , "
NEGATIVE = "".join(f" {name} ," for name in CELEBA if f" {name} ," not in PROMPT and name != "Male")


@dataclass(frozen=True)
class Sizes:
    """Sizes of the networks' inputs.

    Attributes:
        latents: channels, height and width of the latents of one image.
        text_width: length of the vector of one token.
    """

    latents: tuple[int, int, int]
    text_width: int

    def inputs(self, part: Part, images: int = 1) -> Arrays:
        """Seeded inputs of the UNet, for images with guidance, or of the VAE's decoder."""
        rng = np.random.default_rng(0)

        def normal(*shape: int) -> Floats:
            return rng.standard_normal(shape).astype(np.float32)

        if part == "vae_decoder":
            return {"latent_sample": normal(images, *self.latents)}
        return {
            "sample": normal(2 * images, *self.latents),
            "timestep": np.asarray(417.25, np.float32),
            "encoder_hidden_states": normal(2 * images, 77 * WINDOWS, self.text_width),
        }


def torch_eager(
    folder: Path, part: Part, channels_last: bool = False, compiled: bool = False, half: bool = False
) -> Call:
    """The networks of diffusers in PyTorch."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel

    kind, name = (UNet2DConditionModel, "unet") if part == "unet" else (AutoencoderKL, "vae")
    net: Any = kind.from_pretrained(folder / "model" / name).eval()
    if channels_last:
        net.to(memory_format=torch.channels_last)
    if half:
        net.to(torch.bfloat16)
    forward: Any = net.forward if part == "unet" else net.decode
    if compiled:
        forward = torch.compile(forward)

    def call(inputs: Arrays) -> Floats:
        tensors = [torch.from_numpy(array) for array in inputs.values()]
        if channels_last:
            tensors[0] = tensors[0].contiguous(memory_format=torch.channels_last)
        if half:
            tensors = [tensor.to(torch.bfloat16) if tensor.ndim else tensor for tensor in tensors]
        with torch.no_grad():
            result: Floats = forward(*tensors, return_dict=False)[0].float().numpy()
        return result

    return call


def engine(folder: Path, part: Part, bundle: str = "ours") -> Call:
    """An engine of a bundle of this project's."""
    from anon_runtime import Anonymizer

    return _first(Anonymizer.load(folder / "engines" / bundle, checksum=False).engines[part])


def fast_loop(folder: Path, _part: Part, bundle: str, level: int) -> Call:
    """A level of ``--fast``: the UNet's time for an image, for each evaluation that an exact image has."""
    from anon_runtime import Anonymizer, Request, Settings
    from anon_runtime.diffusion.acceleration import FAST_LEVELS
    from anon_runtime.timing import StageTimer

    exact = Anonymizer.load(folder / "engines" / bundle, Settings(guard="off"), checksum=False)
    generator = exact.using(Settings(guard="off", acceleration=FAST_LEVELS[level])).generator
    request = generator.tokenize(Request(PROMPT, NEGATIVE, 7))
    assert request.windows == WINDOWS

    def call(_inputs: Arrays) -> OwnTime:
        timer = StageTimer()
        for _ in generator.denoise([request], timer=timer):
            pass
        return OwnTime(timer.seconds["unet"] / len(exact.generator.evaluations))

    return call


def openvino(folder: Path, part: Part, graph: str = "model.onnx", f32: bool = False, static: bool = False) -> Call:
    """OpenVINO on the plain graph, see `PLAIN`, or on what NNCF made of it.

    As it is installed, it computes in bfloat16 wherever the processor knows it, and has free shapes.
    """
    core = import_openvino().Core()
    model = core.read_model(folder / "engines" / "plain" / part / graph)
    compiled: list[Any] = []

    def call(inputs: Arrays) -> Floats:
        if not compiled:
            if static:
                model.reshape({name: list(array.shape) for name, array in inputs.items()})
            hints = {"INFERENCE_PRECISION_HINT": "f32"} if f32 else {}
            compiled.append(core.compile_model(model, "CPU", hints))
        return np.array(compiled[0](inputs)[0], np.float32)

    return call


def _first(engine: Engine) -> Call:
    return lambda inputs: np.asarray(next(iter(engine(inputs).values())), np.float32)


def optimum(folder: Path, part: Part) -> Call:
    """Optimum's pipeline on the plain graphs; see `PLAIN`."""
    from optimum.onnxruntime import ORTStableDiffusionPipeline

    pipeline = ORTStableDiffusionPipeline.from_pretrained(folder / "engines" / "plain")
    network = getattr(pipeline, part)
    return lambda inputs: np.asarray(network(**inputs, return_dict=False)[0], np.float32)


class OwnTime(NamedTuple):
    """The time that a contender measures itself, because its networks cannot be called from outside."""

    seconds: float


def stable_diffusion_cpp(folder: Path, _part: Part, weights: str) -> Call:
    """A step with guidance in the pipeline of stable-diffusion.cpp, which measures its time itself."""
    from stable_diffusion_cpp import StableDiffusion

    model = StableDiffusion(
        str(folder / "model"),
        wtype=weights,
        n_threads=int(os.environ["OMP_NUM_THREADS"]),
        flash_attn=True,
        diffusion_flash_attn=True,
        verbose=False,
    )

    def call(inputs: Arrays) -> OwnTime:
        height, width = (8 * side for side in inputs["sample"].shape[2:])
        took: list[float] = []
        model.generate_image(
            "portrait of a woman",
            "Bald",
            width=width,
            height=height,
            cfg_scale=7.5,
            sample_method="euler",
            sample_steps=1,
            progress_callback=lambda _step, _steps, seconds: took.append(seconds),
        )
        return OwnTime(took[-1])

    return call


CONTENDERS: dict[str, Callable[[Path, Part], Call]] = {
    BASELINE: torch_eager,
    "diffusers, channels_last": partial(torch_eager, channels_last=True),
    "diffusers, torch.compile": partial(torch_eager, compiled=True),
    "diffusers, bf16": partial(torch_eager, half=True),
    OURS: engine,
    f"{OURS}, --fast 2": partial(fast_loop, bundle="ours", level=2),
    f"{OURS}, OpenVINO f32": partial(engine, bundle="openvino"),
    INT8: partial(engine, bundle="int8"),
    f"{INT8}, --fast 2": partial(fast_loop, bundle="int8", level=2),
    HALF: partial(engine, bundle="int8-bf16"),
    f"{HALF}, --fast 2": partial(fast_loop, bundle="int8-bf16", level=2),
    f"{HALF}, --fast 3": partial(fast_loop, bundle="int8-bf16", level=3),
    "OpenVINO, as installed": openvino,
    "OpenVINO, f32": partial(openvino, f32=True),
    "OpenVINO, f32, static": partial(openvino, f32=True, static=True),
    "OpenVINO, NNCF int8": partial(openvino, graph="nncf.xml"),
    "OpenVINO, NNCF int8, f32, static": partial(openvino, graph="nncf.xml", f32=True, static=True),
    "Optimum": optimum,
    "stable-diffusion.cpp, f32": partial(stable_diffusion_cpp, weights="f32"),
    "stable-diffusion.cpp, q8_0": partial(stable_diffusion_cpp, weights="q8_0"),
}


# The quick form of the comparison: this project's ways, and the strongest other one of each precision.
QUICK = (*(name for name in CONTENDERS if name.startswith(OURS)), "OpenVINO, f32, static", "OpenVINO, NNCF int8")
# Contenders that get plain graphs, as other exporters write them: no Winograd convolutions, no fused attention.
PLAIN = tuple(name for name in CONTENDERS if name.startswith(("OpenVINO", "Optimum")))
ON_OPENVINO = tuple(name for name in CONTENDERS if name.startswith((INT8, f"{OURS}, OpenVINO")))
NNCF = tuple(name for name in PLAIN if "NNCF" in name)
# Contenders that have no VAE of their own, or none that can be called.
UNET_ONLY = (*NNCF, *(name for name in CONTENDERS if "--fast" in name or "stable-diffusion" in name))
# Contenders that take ten times as long as the others, so that two runs have to be enough.
SLOW = ("stable-diffusion.cpp, f32", "stable-diffusion.cpp, q8_0")


class Run(NamedTuple):
    """One call of a network.

    Attributes:
        seconds: of the call.
        result: the network's first output; None where a contender does not return it.
        peak: most resident memory of the process so far, in bytes.
    """

    seconds: float
    result: Floats | None
    peak: int


def serve(name: str, folder: Path, part: Part, threads: int, connection: Connection) -> None:
    """The process of a contender: it receives inputs and sends a `Run` for each.

    It sends None once its network is loaded, and a text in place of a run if it fails.
    """
    try:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        call = CONTENDERS[name](folder, part)
        connection.send(None)
        while (inputs := connection.recv()) is not None:
            start = time.perf_counter()
            result = call(inputs)
            seconds = time.perf_counter() - start
            if isinstance(result, OwnTime):
                connection.send(Run(result.seconds, None, peak_memory()))
            else:
                connection.send(Run(seconds, result, peak_memory()))
    except Exception as error:  # noqa: BLE001 - the exceptions of the contenders' libraries share no base class
        connection.send(f"{type(error).__name__}: {error}".splitlines()[0][:200])


def peak_memory() -> int:
    """The largest resident size of this process so far, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


class Contender:
    """A contender in a process of its own.

    Raises:
        UnavailableError: it cannot run on this machine.
    """

    def __init__(self, name: str, folder: Path, part: Part, threads: int) -> None:
        context = get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=serve, args=(name, folder, part, threads, other), daemon=True)
        self._process.start()
        other.close()
        self._receive()

    def run(self, inputs: Arrays) -> Run:
        """Call the network once."""
        self._connection.send(inputs)
        run = self._receive()
        assert run is not None
        return run

    def _receive(self) -> Run | None:
        try:
            answer: Run | str | None = self._connection.recv()
        except EOFError:
            answer = f"its process ended with {self._process.exitcode}"
        if isinstance(answer, str):
            raise UnavailableError(answer)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()


class UnavailableError(Exception):
    """A contender cannot run on this machine; the message is the reason."""
