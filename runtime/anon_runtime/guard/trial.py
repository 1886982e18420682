"""The attempts for one photo: which portrait is painted next, and which one is released."""

import hashlib
from dataclasses import dataclass, replace

from ..errors import RefusedError
from ..types import Floats, Portrait
from .decision import Finding
from .options import GuardOptions


@dataclass(frozen=True)
class Attempt:
    """An attempt to paint a portrait that passes.

    Attributes:
        number: its number, from 0.
        coarsening: the level of the words; see `anon_runtime.guard.words.coarsen`.
    """

    number: int
    coarsening: int

    def seed(self, first: int) -> int:
        """Return the seed of this attempt: that of the photo for the first one, and a hash of it for later ones.

        Args:
            first: the seed of the photo.
        """
        if self.number == 0:
            return first
        text = f"attempt {self.number} after {first}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


@dataclass(frozen=True)
class Judged:
    """A portrait and what the guard found out about it.

    Attributes:
        attempt: the attempt that it was painted in.
        portrait: the portrait.
        finding: the guard's finding.
        embedding: float32 (d,), the embedding of its face; None if it does not show exactly one face.
        agreement: how well it agrees with its words, 0..1; 0 if nobody asked.
    """

    attempt: Attempt
    portrait: Portrait
    finding: Finding
    embedding: Floats | None = None
    agreement: float = 0.0


FIRST = Attempt(0, 0)


class Trial:
    """The attempts for one photo.

    They depend on the photo, on the set of people and on the first attempt, and on nothing else.

    Args:
        options: the options of the guard.
        first: the first attempt. It is a later one if a person wanted another portrait than that of the one before.

    Attributes:
        attempt: the next attempt; None if the trial is over.
    """

    def __init__(self, options: GuardOptions, first: Attempt = FIRST) -> None:
        self._options, self._first = options, first
        self._last: Judged | None = None
        self._failed = self._painted = 0
        self._kept: Judged | None = None
        self.attempt: Attempt | None = first

    @property
    def last(self) -> Judged:
        """The last portrait that was judged."""
        if self._last is None:
            raise RuntimeError("no portrait was judged yet")
        return self._last

    @property
    def refused(self) -> bool:
        """Whether the trial is over and has given no portrait."""
        return self.attempt is None and self._kept is None

    def add(self, judged: Judged) -> None:
        """Take the portrait of the current attempt.

        Args:
            judged: the portrait and the guard's finding.
        """
        self._last = judged
        self._painted += 1
        if judged.finding.cause is not None and self._options.mode == "strict":
            self._failed += 1
        elif self._kept is None or judged.agreement > self._kept.agreement:
            self._kept = judged
        self._go_on(enough=self._painted - self._failed == self._options.best_of)

    def reject(self, finding: Finding) -> None:
        """Take back the portrait that would be released, because of what was found out about it since.

        Args:
            finding: why it may not be released.
        """
        self._last = replace(self.result(), finding=finding)
        self._kept, self._failed = None, self._failed + 1
        self._go_on(enough=False)

    def _go_on(self, *, enough: bool) -> None:
        over = enough or self._painted == self._options.attempts
        number, coarsening = self._first.number + self._painted, self._first.coarsening + self._failed
        self.attempt = None if over else Attempt(number, coarsening)

    def result(self) -> Judged:
        """Return the portrait that may be released, with its attempt and its similarity to its original.

        Raises:
            RefusedError: there is none.
        """
        if self._kept is None:
            count = self._failed
            times = "its only portrait" if count == 1 else f"all of its {count} portraits"
            why = f"the guard refused {times}: {self.last.finding.reason}"
            raise RefusedError(why, "allow more `attempts`, or leave this photo out")
        found, attempt = self._kept.finding.resemblance, self._kept.attempt
        portrait = replace(
            self._kept.portrait,
            attempt=attempt.number,
            coarsening=attempt.coarsening,
            similarity=None if found is None else found.own,
        )
        return replace(self._kept, portrait=portrait)
