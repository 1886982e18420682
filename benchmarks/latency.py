"""Whole images: where the time goes, from the process's start to the PNG, with our runtime and with diffusers."""

import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from anon_runtime.folder.writer import encode

from .contenders import BASELINE, OURS, peak_memory

STAGES = ("text_encoder", "unet", "vae_decoder")
PROMPT = "closeup portrait photo of a white 33 woman, Attractive , Smiling , Wavy_Hair , Young , "
NEGATIVE = " Bald , Eyeglasses , Goatee , Gray_Hair , Mustache , Wearing_Hat , "


def generate_ours(folder: Path, steps: int, connection: Connection) -> None:
    """One image by our runtime; see `measure`."""
    from anon_runtime import Anonymizer, Request, Settings

    anonymizer = Anonymizer.load(folder / "engines" / "ours")
    for role in STAGES:
        anonymizer.engine(role)
    anonymizer.vocabulary  # noqa: B018 - loaded with the engines, as diffusers does
    engines, clock = anonymizer._engines, Clock(connection)
    for role in STAGES:
        path = str(anonymizer.bundle.engine_path(role))
        engines[path] = clock.of(role, engines[path])
    clock.report(lambda: anonymizer.generate([Request(PROMPT, NEGATIVE, 7)], Settings(steps=steps))[0].image)


def generate_theirs(folder: Path, steps: int, connection: Connection) -> None:
    """One image by diffusers; see `measure`."""
    import torch
    from diffusers import DPMSolverSDEScheduler, StableDiffusionPipeline

    pipeline: Any = StableDiffusionPipeline.from_pretrained(
        folder / "model", safety_checker=None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    config = pipeline.scheduler.config
    pipeline.scheduler = DPMSolverSDEScheduler.from_config(config, use_karras_sigmas=True, noise_sampler_seed=7)
    clock = Clock(connection)
    for role, owner, name in (
        ("text_encoder", pipeline.text_encoder, "forward"), ("unet", pipeline.unet, "forward"),
        ("vae_decoder", pipeline.vae, "decode"),
    ):  # fmt: skip
        setattr(owner, name, clock.of(role, getattr(owner, name)))
    generator = torch.Generator().manual_seed(7)
    clock.report(
        lambda: pipeline(PROMPT, negative_prompt=NEGATIVE, num_inference_steps=steps, generator=generator).images[0]
    )


class Clock:
    """Seconds inside of each network, and when the UNet was called for the first time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._first: float | None = None

    def of(self, role: str, network: Callable[..., Any]) -> Callable[..., Any]:
        """A network whose calls are timed."""

        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.monotonic()
            if role == "unet" and self._first is None:
                self._first = start
            result = network(*args, **kwargs)
            self._seconds[role] += time.monotonic() - start
            return result

        return call

    def report(self, generate: Callable[[], Any]) -> None:
        """Generate an image, write it as PNG, and send what it took."""
        start = time.monotonic()
        encode(generate())
        whole = time.monotonic() - start
        rest = whole - sum(self._seconds.values())
        self._connection.send(
            {"stages": self._seconds | {"rest": rest}, "first_unet": self._first, "peak": peak_memory()}
        )


def measure(folder: Path, steps: int) -> dict[str, dict[str, Any]]:
    """By contender: seconds of each stage, seconds from process start to the first UNet call, peak memory in bytes."""
    found = {}
    for name, generate in {OURS: generate_ours, BASELINE: generate_theirs}.items():
        context = get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=partial(generate, folder, steps, sender))
        start = time.monotonic()
        process.start()
        sender.close()
        report = receiver.recv()
        process.join()
        found[name] = {"stages": report["stages"], "to_unet": report["first_unet"] - start, "peak": report["peak"]}
    return found
