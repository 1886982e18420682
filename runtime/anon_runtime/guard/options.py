"""The options of the guard."""

from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import UsageError
from ..types import check_choice, check_float, check_integer

Mode = Literal["strict", "report", "off"]
MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True)
class GuardOptions:
    """The options of the guard, with a value for each of them.

    Attributes:
        mode: ``strict`` releases only portraits that pass; ``report`` measures and releases all; ``off`` does nothing.
        fmr: the false match rate, above 0 and below 1: how often two different people may count as the same person. A
            higher rate gives a lower threshold, which refuses more portraits.
        attempts: how many portraits are painted for a photo, at most.
        min_rank: a portrait is refused if its own original is among this many originals that resemble it most; 0 turns
            this off.
        best_of: the number of portraits that have to pass; the one whose attributes agree best with the words is kept.

    Raises:
        UsageError: a value is out of range.
    """

    mode: Mode = "strict"
    fmr: float = 1e-2
    attempts: int = 6
    min_rank: int = 5
    best_of: int = 1

    def __post_init__(self) -> None:
        check_choice("guard", self.mode, MODES)
        object.__setattr__(self, "fmr", check_float("fmr", self.fmr))
        if not 0 < self.fmr < 1:
            raise UsageError(f"`fmr` {self.fmr}", "a false match rate lies between 0 and 1", "use 0.01 or less")
        for name, least in (("attempts", 1), ("min_rank", 0), ("best_of", 1)):
            value = check_integer(name, getattr(self, name))
            object.__setattr__(self, name, value)
            if value < least:
                raise UsageError(f"`{name}` {value}", "it is too small", f"use {least} or more")
        if self.best_of > self.attempts:
            why = f"there are only {self.attempts} attempts"
            raise UsageError(f"`best_of` {self.best_of}", why, "allow more with `attempts`, or keep fewer")
