"""What goes through the runtime: requests, descriptions, portraits; arrays, engines, and numbers that users give."""

import operator
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .errors import UsageError

Array = NDArray[np.generic]
Arrays = dict[str, Array]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Pixels = NDArray[np.uint8]  # height x width x 3, RGB

# An attribute's score in 0..1; "Ethnic" holds a label and "Age" whole years.
Attributes = dict[str, float | int | str]
Box = tuple[float, float, float, float]  # x, y, width, height in pixels
PhotoSource = str | os.PathLike[str] | Image.Image | Pixels
Progress = Callable[[int, int], None]  # evaluations done, evaluations in all

Sampler = Literal["dpmpp_sde", "dpmpp_2m_sde"]
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)

MAX_SEED = 2**64 - 1
SEED_RANGE = f"a whole number from 0 to {MAX_SEED}"


class Engine(Protocol):
    """A loaded network: named arrays in, named arrays out."""

    def __call__(self, inputs: Mapping[str, Array], /) -> Arrays:
        """Run the network."""
        ...


class EngineSource(Protocol):
    """Engines by role; `anon_runtime.backends.engines.Engines` are those of a bundle."""

    def __getitem__(self, role: str, /) -> Engine:
        """The engine of a role."""
        ...

    def require(self, *roles: str) -> None:
        """Make sure that there are engines for these roles.

        Raises:
            BundleError: there is none for one of them.
        """
        ...

    def verify(self) -> None:
        """Make sure that the engines are the ones that were built; to be called before a result leaves the runtime.

        Raises:
            BundleError: one is not.
        """
        ...


@dataclass(frozen=True)
class Request:
    """One image to generate.

    Attributes:
        prompt: what the image shows.
        negative_prompt: what it does not show.
        seed: 0 .. 2**64 - 1; the same seed, prompts, settings and engines give the same image.

    Raises:
        UsageError: the seed is no whole number in this range, or a prompt is not text.
    """

    prompt: str
    negative_prompt: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", check_seed(self.seed))
        for prompt in (self.prompt, self.negative_prompt):
            try:
                prompt.encode()
            except (AttributeError, UnicodeEncodeError):
                raise UsageError(f"prompt {prompt!r}", "it is no text in Unicode", "write it in UTF-8") from None


@dataclass(frozen=True)
class Description:
    """What a photo was turned into: everything that the generator will know of it.

    Attributes:
        prompt, negative_prompt: the words.
        attributes: ``Ethnic``, ``Age`` and the 40 CelebA scores of the biggest face.
        face: its box in pixels of the upright photo; None where there was no photo.
        seconds: time by stage.
    """

    prompt: str
    negative_prompt: str
    attributes: Attributes
    face: Box | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def request(self, seed: int = 0) -> Request:
        """The image to generate from it."""
        return Request(self.prompt, self.negative_prompt, seed)


@dataclass(frozen=True)
class Portrait:
    """A finished image and how it came about.

    Attributes:
        image: PIL RGB image of the bundle's size; contains no pixel of any photo.
        attributes, face: see `Description`; None where there was no photo.
        seconds: time by stage; of a batch, this image's share.
    """

    image: Image.Image
    prompt: str
    negative_prompt: str
    seed: int
    attributes: Attributes | None = None
    face: Box | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def of(self, description: Description) -> "Portrait":
        """The same image with what is known about its photo."""
        seconds = description.seconds | self.seconds
        return replace(self, attributes=description.attributes, face=description.face, seconds=seconds)


def check_integer(name: str, value: Any) -> int:
    """A whole number of any library as Python's own ``int``.

    Raises:
        UsageError: it is none; neither truth values nor text count as numbers.
    """
    try:
        return operator.index(_refuse_non_numbers(value))
    except (TypeError, ValueError):
        raise UsageError(f"{name} {value!r}", "it is not a whole number", "give a whole number") from None


def check_float(name: str, value: Any) -> float:
    """A number of any library as Python's own ``float``.

    Raises:
        UsageError: it is none; neither truth values nor text count as numbers.
    """
    try:
        return float(_refuse_non_numbers(value))
    except (TypeError, ValueError):
        raise UsageError(f"{name} {value!r}", "it is not a number", "give a number") from None


def _refuse_non_numbers(value: Any) -> Any:
    if isinstance(value, bool | str | bytes) or type(value).__name__ in ("bool", "bool_"):  # numpy's
        raise TypeError
    return value


def check_seed(seed: Any) -> int:
    """A seed as Python's own ``int``.

    Raises:
        UsageError: it is not `SEED_RANGE`.
    """
    checked = check_integer("seed", seed)
    if not 0 <= checked <= MAX_SEED:
        raise UsageError(f"seed {checked}", "it is out of range", f"give {SEED_RANGE}")
    return checked


def check_choice(what: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuse a word that is none of some.

    Raises:
        UsageError: it is.
    """
    if value not in allowed:
        raise UsageError(f"{what} {value!r}", "there is no such choice", f"use one of: {', '.join(allowed)}")
