"""Time of one image by stage, from the start of the process to the PNG file: this runtime and diffusers."""

import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ParamSpec, TypedDict, TypeVar

from PIL import Image

from anon_runtime.folder.writer import encode

from .contenders import BASELINE, HALF, INT8, NEGATIVE, OURS, PROMPT, peak_memory

STAGES = ("text_encoder", "unet", "vae_decoder")
P = ParamSpec("P")
T = TypeVar("T")


class Latency(TypedDict):
    """What one image took.

    Attributes:
        stages: seconds in each network; ``rest`` is everything else.
        to_unet: seconds from the start of the process to the first call of the UNet.
        peak: most resident memory of the process, in bytes.
    """

    stages: dict[str, float]
    to_unet: float
    peak: int


def generate_with_runtime(
    folder: Path, steps: int, connection: Connection, bundle: str = "ours", level: int = 0
) -> None:
    """One image by this runtime; see `measure`."""
    from anon_runtime import Anonymizer, Request, Settings
    from anon_runtime.diffusion.acceleration import FAST_LEVELS

    # The tokenizer is loaded here as well, as diffusers loads its own with the networks.
    settings = Settings(steps=steps, guard="off", acceleration=FAST_LEVELS[level])
    anonymizer = Anonymizer.load(folder / "engines" / bundle, settings)
    start = time.monotonic()
    portrait = anonymizer.generate([Request(PROMPT, NEGATIVE, 7)])[0]
    encode(portrait.image)
    took, own = time.monotonic() - start, portrait.seconds
    # Engines are loaded when they are needed: the UNet in a stage of its own, the others in theirs.
    stages = {"text_encoder": own["text"], "unet": own["unet"], "vae_decoder": own["vae"]}
    rest = took - sum(stages.values())
    connection.send((stages | {"rest": rest}, start + own["text"] + own["load"], peak_memory()))


def generate_with_diffusers(folder: Path, steps: int, connection: Connection) -> None:
    """One image by diffusers; see `measure`."""
    import torch
    from diffusers import DPMSolverSDEScheduler, StableDiffusionPipeline

    pipeline: Any = StableDiffusionPipeline.from_pretrained(
        folder / "model", safety_checker=None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    config = pipeline.scheduler.config
    pipeline.scheduler = DPMSolverSDEScheduler.from_config(config, use_karras_sigmas=True, noise_sampler_seed=7)
    timer = NetworkTimer(connection)
    for role, owner, name in (
        ("text_encoder", pipeline.text_encoder, "forward"),
        ("unet", pipeline.unet, "forward"),
        ("vae_decoder", pipeline.vae, "decode"),
    ):
        setattr(owner, name, timer.timed(role, getattr(owner, name)))
    generator = torch.Generator().manual_seed(7)
    timer.report(
        lambda: pipeline(PROMPT, negative_prompt=NEGATIVE, num_inference_steps=steps, generator=generator).images[0]
    )


class NetworkTimer:
    """Measures the seconds in each network, and the time of the first call of the UNet."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._first_unet: float | None = None

    def timed(self, role: str, network: Callable[P, T]) -> Callable[P, T]:
        """A network whose calls are measured."""

        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            start = time.monotonic()
            if role == "unet" and self._first_unet is None:
                self._first_unet = start
            result = network(*args, **kwargs)
            self._seconds[role] += time.monotonic() - start
            return result

        return call

    def report(self, generate: Callable[[], Image.Image]) -> None:
        """Generate an image, encode it as PNG, and send what was measured."""
        start = time.monotonic()
        encode(generate())
        rest = time.monotonic() - start - sum(self._seconds.values())
        self._connection.send((self._seconds | {"rest": rest}, self._first_unet, peak_memory()))


def measure(folder: Path, steps: int) -> dict[str, Latency]:
    """Measure one image by this runtime and one by diffusers, each in a process of its own.

    Bundles that are not there are left out.
    """
    found: dict[str, Latency] = {}
    runs: dict[str, Callable[..., None]] = {OURS: generate_with_runtime, BASELINE: generate_with_diffusers}
    for name, bundle in {INT8: "int8", HALF: "int8-bf16"}.items():
        if (folder / "engines" / bundle).exists():
            runs[name] = partial(generate_with_runtime, bundle=bundle)
            runs[f"{name}, --fast 2"] = partial(generate_with_runtime, bundle=bundle, level=2)
    for name, generate in runs.items():
        context = get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=partial(generate, folder, steps, sender))
        start = time.monotonic()
        process.start()
        sender.close()
        stages, first_unet, peak = receiver.recv()
        process.join()
        found[name] = {"stages": stages, "to_unet": first_unet - start, "peak": peak}
    return found
