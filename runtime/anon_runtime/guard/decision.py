"""The guard's decision on one portrait."""

from dataclasses import dataclass
from typing import Literal

from ..bundle.identity import Calibration
from .options import GuardOptions
from .reference import Resemblance
from .thresholds import Threshold, find_threshold, lowest_carried_rate

PEOPLE_PER_RANK = 20  # a limit of the rank refuses at most one in 20 portraits that resemble nobody more than others

Cause = Literal["no face", "several faces", "own original", "nearest", "another person", "face left"]


@dataclass(frozen=True)
class Limits:
    """What a portrait has to keep to.

    Attributes:
        own: the threshold of the similarity to the own original.
        others: the threshold of the similarity to all other people; it is applied only if it is carried.
        min_rank: a portrait is refused if its own original is among this many people that resemble it most; 0 if there
            are too few people.
        link: the similarity from which on two originals count as the same person.
    """

    own: Threshold
    others: Threshold
    min_rank: int
    link: float


@dataclass(frozen=True)
class Finding:
    """What the guard found out about a portrait.

    Attributes:
        resemblance: its similarities; None if it does not show exactly one face.
        cause: why it may not be released; None if it passes.
        reason: the cause in a sentence; empty if it passes.
    """

    resemblance: Resemblance | None
    cause: Cause | None = None
    reason: str = ""


def set_limits(calibration: Calibration, options: GuardOptions, people: int) -> Limits:
    """Return the limits for a number of people.

    A portrait is compared with its own original once, so that the false match rate applies as it is. It is compared
    with all other people as well, so that there the rate is divided by their number (the bound of Bonferroni).

    Args:
        calibration: the similarities of different people.
        options: the options of the guard.
        people: the number of people that each portrait is compared with.
    """
    rate = options.fmr / max(people, 1)
    link = find_threshold(calibration, max(rate, lowest_carried_rate(calibration)))
    return Limits(
        find_threshold(calibration, options.fmr),
        find_threshold(calibration, rate),
        min(options.min_rank, people // PEOPLE_PER_RANK),
        link.value,
    )


def decide(faces: int, resemblance: Resemblance | None, limits: Limits) -> Finding:
    """Return whether a portrait may be released, and why not.

    Args:
        faces: the number of faces that were found in the portrait.
        resemblance: the similarities of its face; None if there is not exactly one.
        limits: the limits.
    """
    if resemblance is None:
        several = f"it shows {faces} faces, so that nobody can tell whom it resembles"
        cause: Cause = "several faces" if faces else "no face"
        return Finding(None, cause, several if faces else "no face is found in it, so that it cannot be checked")
    own, rank, nearest = resemblance.own_best, resemblance.rank, resemblance.nearest
    if own >= limits.own.value:
        why = f"it resembles its original (similarity {own:.2f}; {limits.own.value:.2f} is the limit)"
        return Finding(resemblance, "own original", why)
    if rank <= limits.min_rank:
        why = f"among all people, its original is number {rank} of those whom it resembles most"
        return Finding(resemblance, "nearest", f"{why} (number {limits.min_rank + 1} is the limit)")
    if nearest is not None and limits.others.carried and nearest >= limits.others.value:
        why = f"it resembles another person (similarity {nearest:.2f}; {limits.others.value:.2f} is the limit)"
        return Finding(resemblance, "another person", why)
    return Finding(resemblance)
