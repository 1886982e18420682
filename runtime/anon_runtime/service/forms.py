"""What requests say, and the settings that follow from it."""

from typing import Annotated, Any

from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field, Json

from ..diffusion.acceleration import FAST_LEVELS
from ..errors import UsageError
from ..faces.prompt import PromptStyle
from ..folder.writer import ENDINGS, ImageFormat
from ..guard.options import MODES, GuardOptions, Mode
from ..settings import Settings
from ..types import MAX_SEED, Attributes, Request, Sampler

MEDIA_TYPES: dict[ImageFormat, str] = {name: f"image/{name}" for name in ENDINGS}
MOST_STEPS = 1000  # the bundle says how many it has tables for
MOST_ATTEMPTS = 50


class ReadingForm(BaseModel):
    """A photo, and how it is read."""

    model_config = ConfigDict(extra="forbid")

    photo: Annotated[UploadFile | None, Field(description="The file of a photo: JPEG, PNG, WebP or AVIF.")] = None
    attributes: Annotated[
        Json[dict[str, float | int | str]] | None,
        Field(
            description="Attributes as an object of JSON, in place of those that the engines read.",
            examples=['{"Age": 41, "Ethnic": "white", "Male": 0.1, "Smiling": 0.9}'],
        ),
    ] = None
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
        return Settings(**self._chosen(), guard=weakest)

    def _chosen(self) -> dict[str, Any]:
        return {
            "prompt_style": self.prompt_style,
            "ignore": tuple(name for name in map(str.strip, self.ignore.split(",")) if name),
            "attributes": _attributes(self.attributes),
            "min_face": self.min_face,
            "detection_threshold": self.detection_threshold,
        }


class PortraitForm(ReadingForm):
    """A photo, attributes or a prompt, and how the portrait is made."""

    prompt: Annotated[str | None, Field(max_length=10_000, description="A prompt in place of a photo.")] = None
    negative_prompt: Annotated[str, Field(max_length=10_000, description="What the image does not show.")] = ""
    steps: Annotated[int | None, Field(ge=1, le=MOST_STEPS, description="Steps of the sampler.")] = None
    guidance_scale: Annotated[float | None, Field(ge=1, le=100, description="1 turns guidance off.")] = None
    sampler: Annotated[Sampler | None, Field(description="The sampler.")] = None
    fast: Annotated[int, Field(ge=0, lt=len(FAST_LEVELS), description="The level of fast mode; 0 is exact.")] = 0
    guard: Annotated[Mode | None, Field(description="A stricter guard than the service's own.")] = None
    fmr: Annotated[float, Field(gt=0, lt=1, description="The guard's false match rate.")] = GuardOptions.fmr
    attempts: Annotated[int, Field(ge=1, le=MOST_ATTEMPTS, description="The most portraits that are painted.")] = (
        GuardOptions.attempts
    )
    best_of: Annotated[int, Field(ge=1, le=MOST_ATTEMPTS, description="Keep the best of so many.")] = (
        GuardOptions.best_of
    )
    format: Annotated[ImageFormat | None, Field(description="Of the image; otherwise what is accepted, or png.")] = None
    quality: Annotated[int, Field(ge=1, le=100, description="Of JPEG and WebP.")] = 95
    preview_every: Annotated[
        int, Field(ge=0, le=MOST_STEPS, description="Evaluations between two previews in an event stream; 0 for none.")
    ] = 0

    def settings(self, weakest: Mode) -> Settings:
        """Return the settings that the request asks for; see `ReadingForm.settings`."""
        return Settings(
            **self._chosen(),
            steps=self.steps,
            guidance_scale=self.guidance_scale,
            sampler=self.sampler,
            acceleration=FAST_LEVELS[self.fast],
            guard=_stricter(weakest, self.guard),
            fmr=self.fmr,
            attempts=self.attempts,
            best_of=self.best_of,
        )

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


def _attributes(given: dict[str, float | int | str] | None) -> Attributes | None:
    return None if given is None else dict(given)


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
