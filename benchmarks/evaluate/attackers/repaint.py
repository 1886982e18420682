"""The attacker who paints every suspect again.

A portrait depends on the photo, the seed, the settings and, with a guard, on the other photos. Whoever has the photos
of all suspects and the engines, and knows or guesses the seed, paints the very same portrait and finds everybody. A run
has a seed that everybody knows, unless the user gives one. With another seed the attacker has the words only.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.spatial.distance import cdist

from anon_runtime import Anonymizer
from anon_runtime.errors import AnonError
from anon_runtime.folder.options import RunOptions
from anon_runtime.folder.run import describe_run
from anon_runtime.folder.writer import Output
from anon_runtime.types import Pixels

from ..pairs import ImageFile, Method
from ..requirements import MissingError
from ..runs import Knowledge, Run
from ..study import Study, attempt
from ..types import Figures, Mask, Vector
from .painter import Wanted, paint

SEED_KNOWN, ANOTHER_SEED = "seed known", "another seed"
OTHER = 0x9E3779B97F4A7C15  # no seed that anybody is likely to choose
SIDE = 32  # pixels of the images that are compared: noise of a lossy format is gone, and other faces still differ
PAINTED = "the first attempt for every original, and for those of later portraits also the attempt of the journal"
_SAME = (
    *("anon-run", "engines", "sampler", "steps", "guidance_scale", "acceleration", "prompt_truncate"),
    *("prompt_style", "ignore", "detection_threshold", "min_face", "more_formats"),
)


@dataclass(frozen=True)
class Attack:
    """How similar the n portraits of a method are to the attacker's paintings of the m originals.

    Attributes:
        name: what the attacker knows.
        similarities: (n, m), 0..1; 1 where the painting equals the portrait, 0 where there is no painting.
        exact: (n,), portraits that the attacker has painted again without the difference of a single pixel.
    """

    name: str
    similarities: Vector
    exact: Mask


@dataclass(frozen=True)
class Repainted:
    """The attacks on a method.

    Attributes:
        seed: how the attacker knows the seed.
        attacks: with another seed, and with the right one if it is known.
        painted: what the attacker paints with the seed.
    """

    seed: Knowledge
    attacks: tuple[Attack, ...]
    painted: str = PAINTED


def evaluate_repaint(study: Study) -> dict[str, Repainted | Figures]:
    """Attack all methods that are runs of ``anon-run``, or say what is missing.

    The attacker does not know in which attempt a portrait was painted, and would paint all attempts of all suspects.
    To save time, only the first attempt of every suspect is painted, and the one in which the suspect's portrait was
    released. Where the portrait is painted again exactly, no other painting can be more similar, so that the further
    ones would change nothing. With another seed only the first attempts are painted, once: who paints more of them may
    find more.

    Paintings are kept in the cache, for other methods that have the same settings, and for the next evaluation.
    """
    return {method.name: _attack(study, method) for method in study.methods}


def _attack(study: Study, method: Method) -> Repainted | Figures:
    run = method.run
    if run is None:
        return {"missing": "repainting: missing: a journal of anon-run"}
    return attempt(lambda: _repaint(study, method, run))


def _repaint(study: Study, method: Method, run: Run) -> Repainted:
    anonymizer, facts = _load(study, method, run)
    suspects, seed = range(len(study.originals)), run.seed.value
    wanted = {ANOTHER_SEED: [Wanted(suspect, OTHER) for suspect in suspects]}
    if seed is not None:
        released = [Wanted(suspect, seed, run.attempts[image.name]) for suspect, image in method.pairs.items()]
        wanted[SEED_KNOWN] = list(dict.fromkeys([*(Wanted(suspect, seed) for suspect in suspects), *released]))
    painted = paint(anonymizer, facts, study.originals, list(chain(*wanted.values())), study.cache / "paintings")
    attacks = []
    for name, some in wanted.items():
        paintings = [(one.photo, painted[one]) for one in some if one in painted]
        attacks.append(compare(name, method, paintings, len(suspects)))
    return Repainted(run.seed.known, tuple(attacks))


def _load(study: Study, method: Method, run: Run) -> tuple[Anonymizer, dict[str, Any]]:
    """The bundle with the settings of a run, and what its paintings depend on.

    Raises:
        MissingError: the bundle or the settings are not those of the run, or it did not paint portraits.
    """
    row = f"repainting {method.name}"
    if (mode := run.facts.get("mode")) != "portrait":
        raise MissingError(row, f"it is for portraits, and the run has the mode {mode}", "evaluate a run of portraits")
    anonymizer, fix = study.anonymizer, "name the run's bundle with --engines, and use the run's version"
    try:
        anonymizer = anonymizer.using(run.settings())
        own = describe_run(anonymizer, Output(Path()), RunOptions())
        changed = [f"{name} was {run.facts[name]} and is {own[name]}" for name in _SAME if own[name] != run.facts[name]]
        facts = {name: run.facts[name] for name in (*_SAME, "batched", "format", "quality")}
    except (AnonError, KeyError, TypeError) as error:
        raise MissingError(row, f"its settings cannot be used: {error}", fix) from None
    if changed:
        raise MissingError(row, "; ".join(changed), fix)
    return anonymizer, facts


def compare(name: str, method: Method, paintings: Sequence[tuple[int, ImageFile]], suspects: int) -> Attack:
    """Compare a method's portraits with paintings of suspects; the most similar painting of a suspect counts.

    Args:
        name: of the attack.
        method: the portraits.
        paintings: images, each with the index of its suspect.
        suspects: the number of originals.
    """
    portraits, exact = list(method.pairs.values()), np.zeros(len(method.pairs), bool)
    found = np.zeros((len(portraits), suspects))
    if paintings:
        likeness = similarities(_pixels(portraits), _pixels(image for _, image in paintings))
        np.maximum.at(found.T, [suspect for suspect, _ in paintings], likeness.T)
    rows = {suspect: row for row, suspect in enumerate(method.pairs)}
    for suspect, painting in paintings:
        if suspect in rows:
            row = rows[suspect]
            exact[row] |= np.array_equal(portraits[row].pixels(), painting.pixels())
    return Attack(name, found, exact)


def similarities(portraits: Iterable[Pixels], paintings: Iterable[Pixels]) -> Vector:
    """Similarities (n, m) of images by their pixels: 1 - the mean absolute difference, 0..1.

    Images are reduced to `SIDE` pixels first. Two different paintings differ more than a reduced image hides, and what
    JPEG and WebP change is averaged out.

    Args:
        portraits: n images, uint8 (height, width, 3).
        paintings: m images.
    """
    first, second = _reduce(portraits), _reduce(paintings)
    likeness: Vector = 1 - cdist(first, second, "cityblock") / first.shape[1]
    return likeness


def _reduce(images: Iterable[Pixels]) -> Vector:
    """Small images as rows (n, d), 0..1."""
    small = (Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX) for image in images)
    return np.stack([np.asarray(image, np.float64).ravel() for image in small]) / 255


def _pixels(images: Iterable[ImageFile]) -> Iterator[Pixels]:
    return (image.pixels() for image in images)
