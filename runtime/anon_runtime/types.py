"""The types that all parts of the runtime use, and the checks of numbers and words that users give.

The types are arrays, the interfaces of engines, requests, descriptions and portraits.
"""

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
Pixels = NDArray[np.uint8]  # (height, width, 3), RGB
Mask = NDArray[np.bool_]  # (height, width), which pixels are meant

# The attributes of a face by name: scores in 0..1, except for "Ethnic" (a label) and "Age" (whole years).
Attributes = dict[str, float | int | str]
Box = tuple[float, float, float, float]  # x, y, width, height in pixels
PhotoSource = str | os.PathLike[str] | Image.Image | Pixels
Progress = Callable[[int, int], None]  # arguments: the number of evaluations that are done, the number of all

Sampler = Literal["dpmpp_sde", "dpmpp_2m_sde"]
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)

MAX_SEED = 2**64 - 1
SEED_RANGE = f"a whole number from 0 to {MAX_SEED}"


class Engine(Protocol):
    """The interface of an engine: a loaded network with named arrays as inputs and outputs."""

    def __call__(self, inputs: Mapping[str, Array], /) -> Arrays:
        """Run the network and return its outputs by name."""
        ...


class EngineSource(Protocol):
    """The interface of an object that holds engines by role; `anon_runtime.backends.engines.Engines` is one."""

    def __getitem__(self, role: str, /) -> Engine:
        """Return the engine of a role."""
        ...

    def require(self, *roles: str) -> None:
        """Check that there are engines for some roles.

        Args:
            *roles: the roles, such as ``unet``.

        Raises:
            BundleError: there is no engine for one of the roles.
        """
        ...

    def release(self, role: str) -> None:
        """Release the memory of an engine that other engines can use better; it is loaded again at its next use.

        Args:
            role: the role, such as ``text_encoder``. Engines that take little memory stay loaded.
        """
        ...

    def verify(self) -> None:
        """Check that the engines are the ones that were built; call this before a result is handed out.

        Raises:
            BundleError: an engine is not the one that was built.
        """
        ...


@dataclass(frozen=True, eq=False)
class Canvas:
    """A picture of which a part is painted anew; see `anon_runtime.diffusion.inpainting.make_canvas`.

    Attributes:
        pixels: uint8 (height, width, 3), RGB; the part that is painted anew holds nothing of what was there.
        mask: bool (height, width), whether a pixel is painted anew.
    """

    pixels: Pixels
    mask: Mask


@dataclass(frozen=True)
class Request:
    """A request to generate one image.

    Attributes:
        prompt: the text that says what the image shows.
        negative_prompt: the text that says what the image does not show.
        seed: 0 .. 2**64 - 1. The same seed, prompts, settings and engines give the same image.
        canvas: the picture of which a part is painted anew; None for a whole image.

    Raises:
        UsageError: the seed is not a whole number in this range, or a prompt is not text.
    """

    prompt: str
    negative_prompt: str = ""
    seed: int = 0
    canvas: Canvas | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", check_seed(self.seed))
        for prompt in (self.prompt, self.negative_prompt):
            try:
                prompt.encode()
            except (AttributeError, UnicodeEncodeError):
                raise UsageError(f"prompt {prompt!r}", "it is no text in Unicode", "write it in UTF-8") from None


@dataclass(frozen=True)
class Description:
    """The description of a photo's biggest face; its prompts are all that the generator receives about a photo.

    Attributes:
        prompt: the prompt.
        negative_prompt: the negative prompt.
        attributes: ``Ethnic``, ``Age`` and the 40 CelebA scores of the biggest face.
        face: x, y, width and height of its box, in pixels of the upright photo; None if there was no photo.
        seconds: the time by stage.
        embedding: float32 (d,), the embedding of the face for the guard; None if the guard is off. It is biometric
            data, and is neither printed nor written.
        landmarks: float32 (5, 2), those of the face, in pixels of the upright photo; None if there was no photo. See
            `anon_runtime.faces.detection.Face`.
    """

    prompt: str
    negative_prompt: str
    attributes: Attributes
    face: Box | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    embedding: Floats | None = field(default=None, repr=False, compare=False)
    landmarks: Floats | None = field(default=None, repr=False, compare=False)

    def request(self, seed: int = 0) -> Request:
        """Return the request to generate a portrait from this description.

        Args:
            seed: the seed of the portrait, 0 .. 2**64 - 1.
        """
        return Request(self.prompt, self.negative_prompt, seed)


@dataclass(frozen=True)
class Portrait:
    """A generated image and the facts about its origin.

    Attributes:
        image: the PIL image, RGB, in the bundle's size; it contains no pixel of any photo.
        prompt: the prompt.
        negative_prompt: the negative prompt.
        seed: the seed.
        attributes: see `Description`; None if there was no photo.
        face: see `Description`; None if there was no photo.
        seconds: the time by stage; for a batch, this image's share of the time.
        attempt: the number of the attempt that it was painted in, from 0.
        coarsening: the level of its words; see `anon_runtime.guard.words.coarsen`.
        similarity: its similarity to its own original, -1..1; None if the guard has not checked it.
    """

    image: Image.Image
    prompt: str
    negative_prompt: str
    seed: int
    attributes: Attributes | None = None
    face: Box | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    attempt: int = 0
    coarsening: int = 0
    similarity: float | None = None

    def of(self, description: Description) -> "Portrait":
        """Return the same portrait with the attributes, the face and the times of a description."""
        seconds = description.seconds | self.seconds
        return replace(self, attributes=description.attributes, face=description.face, seconds=seconds)


@dataclass(frozen=True)
class Retouched:
    """A photo in which other faces are in the place of its faces, and the facts about them.

    Attributes:
        image: the PIL image, RGB, in the size of the upright photo. No pixel of the region of a face is one of the
            photo, except for faces that are kept; all other pixels are those of the photo.
        people: the portraits that are in it, that of the biggest face first; their images are what was painted.
        filled: the boxes of faces that were filled with the colours around them, since they are too small to paint.
        kept: the boxes of faces that were left as they are, since their people agreed to it.
        seconds: the time by stage.
    """

    image: Image.Image
    people: tuple[Portrait, ...]
    filled: tuple[Box, ...] = ()
    kept: tuple[Box, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)


def check_integer(name: str, value: Any) -> int:
    """Return a whole number of any library as Python's own ``int``.

    Args:
        name: the name of the setting, for the message.
        value: the number.

    Raises:
        UsageError: the value is not a whole number; truth values and text do not count as numbers.
    """
    try:
        return operator.index(_refuse_non_numbers(value))
    except (TypeError, ValueError):
        raise UsageError(f"{name} {value!r}", "it is not a whole number", "give a whole number") from None


def check_float(name: str, value: Any) -> float:
    """Return a number of any library as Python's own ``float``.

    Args:
        name: the name of the setting, for the message.
        value: the number.

    Raises:
        UsageError: the value is not a number; truth values and text do not count as numbers.
    """
    try:
        return float(_refuse_non_numbers(value))
    except (TypeError, ValueError):
        raise UsageError(f"{name} {value!r}", "it is not a number", "give a number") from None


def _refuse_non_numbers(value: Any) -> Any:
    if isinstance(value, bool | str | bytes) or type(value).__name__ in ("bool", "bool_"):  # numpy's truth values
        raise TypeError
    return value


def check_seed(seed: Any) -> int:
    """Return a seed as Python's own ``int``.

    Args:
        seed: the seed.

    Raises:
        UsageError: the seed is not a whole number in 0 .. 2**64 - 1.
    """
    checked = check_integer("seed", seed)
    if not 0 <= checked <= MAX_SEED:
        raise UsageError(f"seed {checked}", "it is out of range", f"give {SEED_RANGE}")
    return checked


def check_choice(what: str, value: str, allowed: tuple[str, ...]) -> None:
    """Check that a word is one of the allowed words.

    Args:
        what: the name of the setting, for the message.
        value: the word.
        allowed: the words that are allowed.

    Raises:
        UsageError: the word is not allowed.
    """
    if value not in allowed:
        raise UsageError(f"{what} {value!r}", "there is no such choice", f"use one of: {', '.join(allowed)}")
