"""Orders: what somebody asks the studio for, how far it is, and what comes of it."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from ..anonymizer import Anonymizer
from ..folder.writer import ImageFormat, Output
from ..types import Box, Description, Pixels, Portrait, Request, Retouched


@dataclass(frozen=True)
class Order:
    """What somebody asks for.

    Attributes:
        anonymizer: the engines, with the settings of this order.
        photo: the content of a photo's file; None to use a prompt or the settings' attributes.
        request: prompts; None to use the photo or the settings' attributes.
        seed: as for ``anon-run``: the seed of a photo is made from it and the photo's content, and without a photo it
            is used directly.
        format, quality: those of the picture's file, since the guard sees what readers of that file see.
        describe_only: whether to paint nothing.
        preview_every: the number of evaluations between two previews of a portrait; 0 for none.
        in_place: whether the faces of the photo are replaced, in place of a portrait.
        boxes: the only faces that are replaced; see `anon_runtime.folder.options.RunOptions`.
    """

    anonymizer: Anonymizer
    photo: bytes | None = None
    request: Request | None = None
    seed: int = 0
    format: ImageFormat = "png"
    quality: int = 95
    describe_only: bool = False
    preview_every: int = 0
    in_place: bool = False
    boxes: tuple[Box, ...] | None = None

    @property
    def content(self) -> bytes:
        """The content of the photo's file."""
        if self.photo is None:
            raise RuntimeError("there is no photo")
        return self.photo

    def shown(self, image: Image.Image) -> Pixels:
        """Return an image as readers of its file see it; see `Output.shown`."""
        return Output(Path(), format=self.format, quality=self.quality).shown(image)


@dataclass(frozen=True)
class Step:
    """How far an order is.

    Attributes:
        done: the number of evaluations that are done, of the current attempts for all faces.
        total: the number of all.
        attempt: the number of the attempt, from 0; of several faces that are painted, the highest.
        preview: uint8 (height, width, 3), RGB; None if there is none at this step.
    """

    done: int
    total: int
    attempt: int
    preview: Pixels | None = None


@dataclass(frozen=True)
class Result:
    """What has come of an order.

    Attributes:
        seed: the seed of the portrait, of the photo with other faces, or that a portrait would have.
        product: a portrait or a photo with other faces; a description if nothing was to be painted.
    """

    seed: int
    product: Description | Portrait | Retouched

    @property
    def picture(self) -> Portrait | Retouched:
        """The picture that was painted."""
        if isinstance(self.product, Description):
            raise RuntimeError("nothing was to be painted")
        return self.product


@dataclass(frozen=True, eq=False)
class Ticket:
    """An order that is worked on.

    Attributes:
        order: what was asked for.
        listen: is called with each step, on a thread of the studio.
        future: gets the result or the error. Cancelling it ends the work on the order after the current evaluation.
    """

    order: Order
    listen: Callable[[Step], object] = lambda step: None
    future: "Future[Result]" = field(default_factory=Future)
