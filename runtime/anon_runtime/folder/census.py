"""The census of a run: what its summary tells about its people, counted from the records while the run goes on.

Facts about single people are kept in memory only, and reach the summary as totals.
"""

import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np

from ..anonymizer import Anonymizer
from ..backends.engines import Engines
from ..guard.alike import Alike, find_alike
from ..guard.anonymity import KAnonymity, Said, count_people, say
from ..guard.groups import Fact, group_people
from ..guard.inspector import Crowd
from ..guard.options import GuardOptions
from ..guard.summary import Different, Ending, GuardFacts, Summary
from ..guard.summary import Engines as EngineFacts
from ..guard.summary import Gallery as GalleryCounts
from ..guard.words import NOBODY, coarsen, years_apart
from ..types import Floats
from .records import Person, Record

PACKAGES = ("anon-engines", "numpy", "onnxruntime", "openvino", "pillow")


@dataclass(frozen=True)
class Met:
    """The people whom a run has met.

    Attributes:
        crowd: all people of the run; None if they are not known, or without a guard.
        released: float32 (d,), the embeddings of the released portraits, by the pseudonyms of their photos.
        gallery: the numbers of the gallery; None if there is none.
    """

    crowd: Crowd | None
    released: Mapping[str, Floats]
    gallery: GalleryCounts | None


class Census:
    """The census of a run.

    Args:
        anonymizer: the anonymizer of the run.
        found: the number of photos that the run was given.
    """

    def __init__(self, anonymizer: Anonymizer, found: int) -> None:
        self._anonymizer, self._found, self._started = anonymizer, found, _now()
        self._counts: Counter[str] = Counter()
        self._facts: list[Fact] = []
        self._known, self._first, self._last = list[Said](), list[Said](), list[Said]()

    def add(self, record: Record, crowd: Crowd | None) -> None:
        """Count a photo.

        Args:
            record: its record.
            crowd: all people of the run; None if they are not known, or without a guard.
        """
        self._counts[record.status] += 1
        if record.status != "skipped":
            for person in record.everybody:
                self._add(person, crowd, released=record.status in ("ok", "done"))

    def _add(self, person: Person, crowd: Crowd | None, *, released: bool) -> None:
        attributes = person.attributes or {}
        sex = "man" if float(attributes.get("Male", 0)) > 0.5 else "woman"
        ethnicity, age, attempt = str(attributes.get("Ethnic", "")), int(attributes.get("Age", 0)), person.attempt
        self._facts.append(Fact(ethnicity, sex, age, released, attempt, person.similarity))
        ignore, level = self._anonymizer.reader.options.ignore, person.coarsening
        self._known.append(say(attributes, age, ignore=ignore))
        if released:
            words = coarsen(attributes, level, crowd.frequencies if crowd else NOBODY)
            self._first.append(self._known[-1])
            self._last.append(say(words, age, years_apart(level), ignore))

    def summarize(self, ending: Ending, seconds: Mapping[str, float], met: Met) -> Summary:
        """Return the summary of the run.

        Args:
            ending: why the run ended.
            seconds: the time by stage.
            met: the people whom the run has met.
        """
        inspector, crowd = self._anonymizer.inspector, met.crowd
        limits = crowd.limits if crowd else None
        calibration = inspector.calibration if inspector else None
        return Summary(
            started=self._started,
            ended=_now(),
            ending=ending,
            found=self._found,
            counts=dict(self._counts),
            versions=_versions(),
            engines=_engines(self._anonymizer.engines),
            seconds={stage: round(value, 3) for stage, value in seconds.items()},
            guard=self._guard(crowd),
            originals=sum(fact.similarity is not None for fact in self._facts) if crowd else 0,
            gallery=met.gallery,
            own=limits.own if limits else None,
            others=limits.others if limits else None,
            different=Different(calibration.data, calibration.people, calibration.pairs, calibration.histogram)
            if calibration
            else None,
            alike=_compare(met, crowd) if crowd else None,
            words=self._count(self._last),
            uncoarsened=self._count(self._first),
            # Attributes that the user has given are a secret of the run, and tell nothing about its people.
            groups=() if self._anonymizer.reader.options.attributes is not None else group_people(self._facts),
        )

    def _count(self, words: list[Said]) -> KAnonymity | None:
        return count_people(words, self._known) if words else None

    def _guard(self, crowd: Crowd | None) -> GuardFacts:
        inspector, identity = self._anonymizer.inspector, self._anonymizer.engines.bundle.manifest.identity
        options = inspector.options if inspector else GuardOptions("off")
        return GuardFacts(
            options.mode,
            identity.name if identity else None,
            options.fmr,
            options.attempts,
            options.min_rank,
            crowd.limits.min_rank if crowd else 0,
            options.best_of,
        )


def _compare(met: Met, crowd: Crowd) -> Alike:
    """Compare the portraits of different photos among each other."""
    names = sorted(met.released)
    others = crowd.limits.others
    embeddings = np.stack([met.released[name] for name in names]) if names else np.zeros((0, 1), np.float32)
    return find_alike(names, embeddings, others.value if others.carried else None)


def _engines(engines: Engines) -> EngineFacts:
    manifest = engines.bundle.manifest
    files = {role: manifest.files[spec.path].sha256 for role, spec in manifest.engines.items()}
    return EngineFacts(manifest.name, manifest.target, files)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except ImportError:  # it is not installed, so that nothing was made with it
            continue
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
