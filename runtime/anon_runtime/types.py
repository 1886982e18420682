"""What goes into a generating and what comes out: requests, descriptions of photos, portraits."""

from dataclasses import dataclass, field, replace

from PIL import Image

from .errors import UsageError
from .faces.attributes import Attributes
from .folder.identity import check_seed


@dataclass(frozen=True)
class Request:
    """One image to generate.

    Raises:
        UsageError: the seed is no whole number from 0 to 2**64 - 1, or a prompt is not text.
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
    """What a photo was turned into: everything that the generating will know of it.

    Attributes:
        request: the prompts and the seed.
        attributes: ``Ethnic``, ``Age`` and the 40 CelebA scores of the biggest face.
        face: its box, x, y, width, height in pixels of the upright photo; None where there was no photo.
        seconds: time by stage.
    """

    request: Request
    attributes: Attributes
    face: tuple[float, float, float, float] | None
    seconds: dict[str, float]


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
    face: tuple[float, float, float, float] | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def of(self, description: Description) -> "Portrait":
        """The same image with what is known about its photo."""
        seconds = description.seconds | self.seconds
        return replace(self, attributes=description.attributes, face=description.face, seconds=seconds)
