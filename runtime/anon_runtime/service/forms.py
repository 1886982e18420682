"""What requests say, and the settings that follow from it."""

from typing import Annotated, Any

from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field, Json, RootModel

from ..diffusion.acceleration import FAST_LEVELS
from ..errors import UsageError
from ..faces.prompt import PromptStyle
from ..folder.options import RunOptions
from ..folder.writer import ENDINGS, ImageFormat
from ..guard.options import MODES, GuardOptions, Mode
from ..settings import Settings
from ..types import MAX_SEED, Attributes, Box, Request, Sampler

MEDIA_TYPES: dict[ImageFormat, str] = {name: f"image/{name}" for name in ENDINGS}
MOST_STEPS = 1000  # the bundle says how many it has tables for
MOST_ATTEMPTS = 50
MOST_BOXES = 100
PHOTO = "The file of a photo: JPEG, PNG, WebP or AVIF."


class BaseForm(BaseModel):
    """How photos are read and words are written."""

    model_config = ConfigDict(extra="forbid")

    seed: Annotated[int, Field(ge=0, le=MAX_SEED, description="Another seed gives another person.")] = 0
    prompt_style: Annotated[PromptStyle, Field(description="How attributes are written.")] = "paper"
    ignore: Annotated[str, Field(description="Attributes that no prompt mentions, with commas.")] = ""
    min_face: Annotated[int, Field(ge=0, description="Ignore smaller faces, in pixels.")] = 0
    detection_threshold: Annotated[float | None, Field(gt=0, lt=1, description="The lowest score of a face.")] = None

    def settings(self, weakest: Mode) -> Settings:
        """Return the settings that the request asks for.

        Args:
            weakest: the weakest guard that the service allows.

        Raises:
            UsageError: a value is not valid.
        """
        return Settings(**self._chosen(weakest))

    def _chosen(self, weakest: Mode) -> dict[str, Any]:
        return {
            "prompt_style": self.prompt_style,
            "ignore": tuple(name for name in map(str.strip, self.ignore.split(",")) if name),
            "min_face": self.min_face,
            "detection_threshold": self.detection_threshold,
            "guard": weakest,
        }


class ReadingForm(BaseForm):
    """A photo, and how it is read."""

    photo: Annotated[UploadFile | None, Field(description=PHOTO)] = None
    attributes: Annotated[
        Json[dict[str, float | int | str]] | None,
        Field(
            description="Attributes as an object of JSON, in place of those that the engines read.",
            examples=['{"Age": 41, "Ethnic": "white", "Male": 0.1, "Smiling": 0.9}'],
        ),
    ] = None

    def _chosen(self, weakest: Mode) -> dict[str, Any]:
        given = None if self.attributes is None else Attributes(self.attributes)
        return super()._chosen(weakest) | {"attributes": given}


class PaintingForm(BaseForm):
    """How a picture is painted, checked and encoded."""

    steps: Annotated[int | None, Field(ge=1, le=MOST_STEPS, description="Steps of the sampler.")] = None
    guidance_scale: Annotated[float | None, Field(ge=1, le=100, description="1 turns guidance off.")] = None
    sampler: Annotated[Sampler | None, Field(description="The sampler.")] = None
    fast: Annotated[int, Field(ge=0, lt=len(FAST_LEVELS), description="The level of fast mode; 0 is exact.")] = 0
    guard: Annotated[Mode | None, Field(description="A stricter guard than the service's own.")] = None
    fmr: Annotated[float, Field(gt=0, lt=1, description="The guard's false match rate.")] = GuardOptions.fmr
    attempts: Annotated[
        int, Field(ge=1, le=MOST_ATTEMPTS, description="The most portraits that are painted of a person.")
    ] = GuardOptions.attempts
    best_of: Annotated[int, Field(ge=1, le=MOST_ATTEMPTS, description="Keep the best of so many.")] = (
        GuardOptions.best_of
    )
    format: Annotated[ImageFormat | None, Field(description="Of the image; otherwise what is accepted, or png.")] = None
    quality: Annotated[int, Field(ge=1, le=100, description="Of JPEG and WebP.")] = 95

    def _chosen(self, weakest: Mode) -> dict[str, Any]:
        return super()._chosen(weakest) | {
            "steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "sampler": self.sampler,
            "acceleration": FAST_LEVELS[self.fast],
            "guard": _stricter(weakest, self.guard),
            "fmr": self.fmr,
            "attempts": self.attempts,
            "best_of": self.best_of,
        }


class PortraitForm(PaintingForm, ReadingForm):
    """A photo, attributes or a prompt, and how the portrait is made."""

    prompt: Annotated[str | None, Field(max_length=10_000, description="A prompt in place of a photo.")] = None
    negative_prompt: Annotated[str, Field(max_length=10_000, description="What the image does not show.")] = ""
    preview_every: Annotated[
        int, Field(ge=0, le=MOST_STEPS, description="Evaluations between two previews in an event stream; 0 for none.")
    ] = 0

    def request(self) -> Request | None:
        """Return the prompts of the request; None if there is no prompt.

        Raises:
            UsageError: there is something else besides the prompt, or the prompt is empty.
        """
        if self.prompt is None:
            if self.negative_prompt:
                raise UsageError("`negative_prompt`", "there is no prompt", "give one, or leave it out")
            return None
        if self.photo is not None or self.attributes is not None:
            why = "a prompt stands in place of a photo and of attributes"
            raise UsageError("`prompt`", why, "leave the prompt out, or the others")
        if not self.prompt.strip():
            raise UsageError("`prompt`", "it is empty", "describe the image")
        return Request(self.prompt, self.negative_prompt, self.seed)


class Boxes(RootModel[Annotated[list[Box], Field(min_length=1, max_length=MOST_BOXES)]]):
    """Boxes, as a model of their own: FastAPI takes a list for the values of a field that is there several times."""


class PhotoForm(PaintingForm):
    """A photo whose faces are replaced in place, and how."""

    photo: Annotated[UploadFile, Field(description=PHOTO)]
    only_box: Annotated[
        Json[Boxes] | None,
        Field(
            description="The only faces that are replaced, as a list of JSON: x, y, width and height of each, in "
            "pixels of the upright photo. Without it, all that are found are replaced.",
            examples=["[[120, 80, 60, 75]]"],
        ),
    ] = None

    @property
    def boxes(self) -> tuple[Box, ...] | None:
        """The only faces that are replaced; see `RunOptions`.

        Raises:
            UsageError: a box is out of range.
        """
        chosen = None if self.only_box is None else tuple(self.only_box.root)
        return RunOptions(mode="in-place", boxes=chosen).boxes


def _stricter(weakest: Mode, wanted: Mode | None) -> Mode:
    """The guard that a request gets: its own, if that is not weaker than the service's.

    Raises:
        UsageError: it is weaker.
    """
    if wanted is None:
        return weakest
    if MODES.index(wanted) > MODES.index(weakest):
        raise UsageError(f"`guard` {wanted}", f"this service is {weakest}", "leave it out, or choose a stricter one")
    return wanted
