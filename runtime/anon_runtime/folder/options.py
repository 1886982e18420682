"""The options of a run over many photos."""

from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import UsageError
from ..types import Box, check_choice, check_float, check_integer, check_seed
from .metadata import KINDS, Kind

RunMode = Literal["portrait", "in-place", "faces"]
RUN_MODES: tuple[RunMode, ...] = get_args(RunMode)


@dataclass(frozen=True)
class RunOptions:
    """The options of a run: all choices that do not concern the reading of photos or the generating of images.

    Attributes:
        seed: the run's seed, 0 .. 2**64 - 1. The seed of each photo is made from this seed and the photo's content; see
            `anon_runtime.folder.identity.identify`.
        batch_size: the number of photos that are processed together. An image does not depend on it, except for a last
            digit if it is 1. The field ``batch_size`` of the manifest's `Defaults` is a value that was measured to be
            fast.
        no_face: whether a photo without a face is an ``error`` or is a photo to ``skip``; in both cases it gives no
            portrait.
        overwrite: whether to process photos again that are done, and to replace all files under the names of their
            portraits.
        max_failures: the run ends when more photos than this have failed; None means that it never ends for this
            reason.
        log_attributes: whether to write the attributes and the prompt of each photo into the journal.
        report: whether to write the report of the output folder at the end.
        mode: what is made of a photo: ``portrait``, a portrait of its biggest face, which has no pixel of the photo;
            ``faces``, such a portrait of each of its faces; or ``in-place``, the photo with other faces, of which no
            pixel is one of the photo, and with the rest of the photo as it is.
        boxes: with ``in-place``, x, y, width and height of the only faces that are replaced, in pixels of the upright
            photo; None replaces all that are found.
        keep_metadata: with ``in-place``, what stays of a photo's metadata; see `anon_runtime.folder.metadata`.

    Raises:
        UsageError: a value is out of range.
    """

    seed: int = 0
    batch_size: int = 1
    no_face: Literal["error", "skip"] = "error"
    overwrite: bool = False
    max_failures: int | None = None
    log_attributes: bool = False
    report: bool = True
    mode: RunMode = "portrait"
    boxes: tuple[Box, ...] | None = None
    keep_metadata: tuple[Kind, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", check_seed(self.seed))
        object.__setattr__(self, "batch_size", check_integer("batch_size", self.batch_size))
        if self.batch_size < 1:
            raise UsageError(f"batch size {self.batch_size}", "a batch holds at least one", "use 1 or more")
        check_choice("no_face", self.no_face, ("error", "skip"))
        check_choice("mode", self.mode, RUN_MODES)
        object.__setattr__(self, "keep_metadata", tuple(self.keep_metadata))
        for kind in self.keep_metadata:
            check_choice("`keep_metadata`", kind, KINDS)
        if self.keep_metadata and self.mode != "in-place":
            raise UsageError("`keep_metadata`", "a portrait has none of a photo's metadata", "use `mode` in-place")
        if self.boxes is not None:
            object.__setattr__(self, "boxes", tuple(map(_check_box, self.boxes)))
            if self.mode != "in-place":
                raise UsageError("`only_box`", "it chooses faces that are replaced in place", "use `mode` in-place")


def _check_box(box: Box) -> Box:
    x, y, width, height = (check_float("`only_box`", side) for side in box)
    if not (x >= 0 and y >= 0 and width > 0 and height > 0 and max(x, y, width, height) < 1e6):
        why = "it is no box inside of a photo"
        raise UsageError(f"`only_box` {x:g},{y:g},{width:g},{height:g}", why, "give x,y,width,height in pixels")
    return x, y, width, height
