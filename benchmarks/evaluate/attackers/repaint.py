"""The attacker who paints every suspect again.

A portrait depends on the photo, the seed, the settings and, with a guard, on the other photos. Whoever has the photos
of all suspects and the engines, and knows or guesses the seed, paints the very same portrait and finds everybody. A run
has a seed that everybody knows, unless the user gives one. With another seed the attacker paints what the words say,
which is still more like the own portrait than like others.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from anon_runtime import Anonymizer
from anon_runtime.errors import AnonError
from anon_runtime.folder.options import RunOptions
from anon_runtime.folder.run import describe_run
from anon_runtime.folder.writer import Output
from anon_runtime.guard.trial import FIRST

from ..pairs import Method
from ..requirements import MissingError
from ..runs import Knowledge, Run
from ..study import Study, attempt
from ..types import Figures
from .comparison import Attack, by_face, compare
from .painter import Wanted, paint

SEED_KNOWN, ANOTHER_SEED, BY_FACE = "seed known", "another seed", "another seed, by dlib"
OTHER = 0x9E3779B97F4A7C15  # no seed that anybody is likely to choose
_SAME = (
    *("anon-run", "engines", "sampler", "steps", "guidance_scale", "acceleration", "prompt_truncate"),
    *("prompt_style", "ignore", "detection_threshold", "min_face", "more_formats"),
)


@dataclass(frozen=True)
class Repainted:
    """The attacks on a method.

    Attributes:
        seed: how the attacker knows the seed.
        attacks: with another seed, by pixels and, if dlib is there, by faces; with the right seed, if it is known.
    """

    seed: Knowledge
    attacks: tuple[Attack, ...]


def evaluate_repaint(study: Study) -> dict[str, Repainted | Figures]:
    """Attack all methods that are runs of ``anon-run``, or say what is missing.

    The attacker does not know in which attempt a portrait was painted, and would paint all attempts of all suspects.
    To save time, only that attempt of a suspect is painted in which the suspect's portrait was released. Where a
    portrait is painted again exactly, no other painting can be more similar, so that the others would change nothing.
    With another seed only the first attempts are painted, with one seed: who paints more of them may find more.

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
    suspects, seed, folder = range(len(study.originals)), run.seed.value, study.cache / "paintings"
    wanted = {ANOTHER_SEED: [Wanted(suspect, OTHER) for suspect in suspects]}
    if seed is not None:
        attempts = {suspect: run.attempts[image.name] for suspect, image in method.pairs.items()}
        wanted[SEED_KNOWN] = [Wanted(suspect, seed, attempts.get(suspect, FIRST)) for suspect in suspects]
    painted = paint(anonymizer, facts, study.originals, list(chain(*wanted.values())), folder)
    paintings = {name: {one.photo: painted[one] for one in some if one in painted} for name, some in wanted.items()}
    attacks = [compare(name, method, some, len(suspects)) for name, some in paintings.items()]
    with suppress(MissingError):  # the table of re-identification says what dlib needs
        likeness = by_face(study, method, paintings[ANOTHER_SEED])
        attacks.insert(1, replace(attacks[0], name=BY_FACE, similarities=likeness))
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
