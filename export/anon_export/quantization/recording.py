"""Calls of the UNet by the runtime's own loop, recorded to calibrate a quantized UNet and to compare it with."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from anon_runtime import Request, Settings
from anon_runtime.backends.engines import Engines
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.diffusion.generator import Generator
from anon_runtime.faces.attributes import CELEBA, ETHNICITIES
from anon_runtime.faces.prompt import write_prompts
from anon_runtime.types import Array, Arrays, Attributes, Engine, Floats, Pixels

PRESENT = 0.22  # a CelebA photo has 22 % of the attributes
Report = Callable[[str], object]


@dataclass(frozen=True)
class Call:
    """One call of a UNet for one sample: an engine may be compiled for no more.

    Attributes:
        inputs: of the call.
        output: ``out_sample``.
    """

    inputs: Arrays
    output: Floats

    @property
    def timestep(self) -> float:
        """The timestep, which stands for the noise level."""
        return float(self.inputs["timestep"])


def write_requests(count: int, seed: int) -> list[Request]:
    """Requests with the paper's prompts for people with random attributes, so that no photo of anybody is needed."""
    rng = np.random.default_rng(seed)
    return [Request(*write_prompts(_random_person(rng)), seed=1000 * seed + k) for k in range(count)]


def _random_person(rng: np.random.Generator) -> Attributes:
    present = rng.random(len(CELEBA)) < PRESENT
    person: dict[str, float | int | str] = {name: float(has) for name, has in zip(CELEBA, present, strict=True)}
    return person | {"Ethnic": str(rng.choice(ETHNICITIES)), "Age": int(rng.integers(18, 76))}


class Recorder:
    """A UNet that keeps its first calls, one sample each.

    Attributes:
        engine: that is called.
        most: number of calls to keep.
        calls: so far.
    """

    def __init__(self, engine: Engine, most: int) -> None:
        self.engine, self.most = engine, most
        self.calls: list[Call] = []

    def __call__(self, inputs: Mapping[str, Array], /) -> Arrays:
        """Call the engine."""
        outputs = self.engine(inputs)
        result = np.asarray(outputs["out_sample"], np.float32)
        for k in range(min(len(result), self.most - len(self.calls))):
            single = {name: np.array(array[k : k + 1] if array.ndim else array) for name, array in inputs.items()}
            self.calls.append(Call(single, result[k : k + 1]))
        return outputs


def record_calls(bundle: Bundle, unet: Engine, requests: Sequence[Request], report: Report) -> list[Call]:
    """Run the whole loop for each request, and keep what the UNet does: all noise levels, both prompts.

    Args:
        bundle: whose text encoder, tokenizer, tables and default settings are used.
        unet: the engine that is called.
        requests: run one after the other.
        report: called with the progress before each of them.
    """
    recorder = Recorder(unet, sys.maxsize)
    with Engines(bundle, replaced={"unet": recorder}) as engines:
        generator = _load_generator(engines)
        for k, request in enumerate(requests):
            report(f"recording image {k + 1} of {len(requests)}")
            for _ in generator.denoise([request]):
                pass
    return recorder.calls


def generate_images(bundle: Bundle, unet: Engine, requests: Sequence[Request], report: Report) -> list[Pixels]:
    """The image of each request with a UNet in place of the bundle's; see `record_calls` for the arguments."""
    images = []
    with Engines(bundle, replaced={"unet": unet}) as engines:
        generator = _load_generator(engines)
        for k, request in enumerate(requests):
            report(f"image {k + 1} of {len(requests)}")
            images.append(np.asarray(generator.generate([request])[0].image))
    return images


def _load_generator(engines: Engines) -> Generator:
    return Generator.load(engines, Settings(guard="off").resolve(engines.bundle.manifest).sampling)
