"""The policy of a run over many photos."""

from dataclasses import dataclass
from typing import Literal

from ..errors import UsageError
from ..types import check_choice, check_integer, check_seed


@dataclass(frozen=True)
class RunOptions:
    """What a run does with its photos and its output folder, beside reading photos and generating images.

    Attributes:
        seed: a photo's own seed is made from this one and its content; see `identity.identify`.
        batch_size: photos worked on at once; an image does not depend on it. `Defaults.batch_size` of a bundle's
            manifest is what was measured to be fast.
        no_face: whether a photo without a face is an ``error`` or to ``skip``; it never gives an image.
        overwrite: do photos again, and replace whatever lies under their portraits' names.
        max_failures: end the run when more photos have failed; None is never.
        log_attributes: write what is read from faces into the journal.

    Raises:
        UsageError: a value is out of range.
    """

    seed: int = 0
    batch_size: int = 1
    no_face: Literal["error", "skip"] = "error"
    overwrite: bool = False
    max_failures: int | None = None
    log_attributes: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", check_seed(self.seed))
        object.__setattr__(self, "batch_size", check_integer("batch_size", self.batch_size))
        if self.batch_size < 1:
            raise UsageError(f"batch size {self.batch_size}", "a batch holds at least one", "use 1 or more")
        check_choice("no_face", self.no_face, ("error", "skip"))
