"""The figures of a report, counted from the lines of a journal."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any, NamedTuple, get_args

from ..guard.alike import WORST, histogram
from ..guard.summary import Summary
from .decisions import Decision, Verdict

FACES = ("replaced", "filled", "kept")  # what becomes of faces in place, as lines of the journal name it
STATUSES = ("ok", "refused", "skipped", "error")
DECIDED: Mapping[Verdict, str] = {"repaint": "another portrait", "refuse": "a person"}  # causes of refusals by people


@dataclass(frozen=True)
class Case:
    """A released portrait.

    Attributes:
        id: the pseudonym of its photo.
        similarity: its similarity to its own original, -1..1.
        rank: the place of its own original among the people whom it resembles, from 1.
        nearest: its similarity to the most similar other person, -1..1; None if there is no other.
        attempt: the number of the attempt that it was painted in, from 0.
    """

    id: str
    similarity: float
    rank: int
    nearest: float | None
    attempt: int


@dataclass(frozen=True)
class Report:
    """The figures of all runs into a folder with the same settings; it names no photo, and shows nobody.

    A photo counts by its last outcome. Photos that cannot be read have no pseudonym. If names are hidden as well, they
    count again in each run.

    Attributes:
        counts: the number of photos by status: ``ok``, ``refused``, ``skipped``, ``error``.
        withdrawn: how many of the refused photos had a portrait of an earlier run, which was removed.
        unmeasured: the number of released portraits whose similarity to their original is not known.
        faces: the number of faces in released photos whose faces were replaced in place, by what became of them:
            ``replaced``, ``filled``, ``kept``; all are 0 with other modes.
        decisions: the number of photos by what a person has decided about their last portrait: ``accept``, ``repaint``
            or ``refuse``. The last two count as refused until a run paints another portrait.
        refusals: the number of refused photos by cause; see `anon_runtime.guard.decision.Cause` and `DECIDED`.
        skipped: the number of skipped photos by reason.
        errors: the number of failed photos by reason.
        released_similarity: the number of released portraits by similarity to the own original, in 80 bins of equal
            width over -1..1.
        refused_similarity: the same for the last portraits of refused photos.
        nearest_similarity: the number of released portraits by similarity to the most similar other person, in the same
            bins.
        first: the number of released portraits that resemble nobody more than their own original.
        beyond: the number of released portraits that are past a limit of the guard; None if it had none. Similarities
            have four digits in the journal. One that equals the limit in these digits counts as below it.
        attempts: the number of released portraits by attempt, from 0.
        coarsening: the number of released portraits by the level of their words; see
            `anon_runtime.guard.words.coarsen`.
        worst: the released portraits that are most similar to their originals, at most ten; the most similar one comes
            first.
        settings: the settings that all portraits depend on, in plain JSON types.
        summary: the summary of the last run that came to its end; None if there is none or if it is of another
            version.
        later: the number of outcomes in the journal after its last summary, from runs that did not come to their end.
    """

    counts: dict[str, int]
    withdrawn: int
    unmeasured: int
    faces: dict[str, int]
    decisions: dict[str, int]
    refusals: dict[str, int]
    skipped: dict[str, int]
    errors: dict[str, int]
    released_similarity: tuple[int, ...]
    refused_similarity: tuple[int, ...]
    nearest_similarity: tuple[int, ...]
    first: int
    beyond: int | None
    attempts: tuple[int, ...]
    coarsening: tuple[int, ...]
    worst: tuple[Case, ...]
    settings: dict[str, Any]
    summary: Summary | None
    later: int

    def to_dict(self) -> dict[str, Any]:
        """Return the report in plain JSON types."""
        return asdict(self)


class _Outcome(NamedTuple):
    """The last line of a photo; `reason` is the cause of a refusal or the reason of a failure."""

    id: str
    status: str
    reason: str
    withdrawn: bool
    attempt: int | None
    coarsening: int | None
    similarity: float | None
    rank: int | None
    nearest: float | None
    faces: tuple[int, ...] = ()  # see FACES
    verdict: Verdict | None = None


class Tally:
    """The lines of a journal, counted one by one. A million photos take about 700 MB."""

    def __init__(self) -> None:
        self._settings: dict[str, Any] | None = None
        self._outcomes: dict[object, _Outcome] = {}
        self._summary: Summary | None = None
        self._later = 0

    def add(self, line: Any) -> None:
        """Take the next line.

        Args:
            line: its value.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: this is no line of a journal.
        """
        if "run" in line:  # the journal begins anew
            # Early versions wrote the seed among the settings.
            settings = {str(name): value for name, value in line["run"].items() if name != "seed"}
            self._settings, self._outcomes, self._summary, self._later = settings, {}, None, 0
        elif self._settings is None:
            raise ValueError("the first line has no settings")
        elif "summary" in line:
            self._summary, self._later = _read_summary(line["summary"]), 0
        elif "decision" in line:
            self._decide(Decision.of(line["decision"]))
        else:
            self._take(line, self._settings)
            self._later += 1

    def _take(self, line: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        status = _text(line["status"])
        if status not in STATUSES:
            raise ValueError(f"{status} is no status")
        identity = _text(line["id"] or "")
        # A name stays the same if its photo changes, and then the portrait is replaced. A photo whose name is hidden
        # has one portrait, however many copies of it there are.
        key = _key(line.get("input"), line.get("face")) or identity or len(self._outcomes)
        old = self._outcomes.pop(key, None)
        reason = "" if status == "ok" else _text(line["cause" if status == "refused" else "reason"])
        self._outcomes[key] = _Outcome(
            identity,
            status,
            _without_names(reason, line, settings),
            status == "refused" and old is not None and (old.status == "ok" or old.withdrawn),
            _count(line.get("attempt")),
            _count(line.get("coarsening")),
            _similarity(line.get("similarity")),
            _count(line.get("rank")),
            _similarity(line.get("nearest")),
            tuple(_count(line.get(name)) or 0 for name in FACES),
        )

    def _decide(self, decision: Decision) -> None:
        # Without an outcome, the journal was begun anew since the portrait was painted.
        blank = _Outcome(decision.id, "", "", False, decision.attempt, decision.coarsening, None, None, None)
        for key in {_key(file.input, file.face) or decision.id for file in decision.files}:
            outcome = self._outcomes.get(key, blank)._replace(verdict=decision.verdict)
            if not decision.keeps:
                outcome = outcome._replace(status="refused", reason=DECIDED[decision.verdict], withdrawn=True)
            self._outcomes[key] = outcome

    def report(self) -> Report | None:
        """Return the report; None if there was no line."""
        if self._settings is None:
            return None
        everybody = list(self._outcomes.values())
        of = {status: [one for one in everybody if one.status == status] for status in STATUSES}
        released, refused = of["ok"], of["refused"]
        cases = [
            Case(one.id, one.similarity, one.rank, one.nearest, one.attempt or 0)
            for one in released
            if one.similarity is not None and one.rank is not None
        ]
        return Report(
            counts={status: len(of[status]) for status in STATUSES},
            withdrawn=sum(one.withdrawn for one in refused),
            unmeasured=len(released) - len(cases),
            faces={name: sum(one.faces[i] for one in released if one.faces) for i, name in enumerate(FACES)},
            decisions={verdict: sum(one.verdict == verdict for one in everybody) for verdict in get_args(Verdict)},
            refusals=_by_reason(refused),
            skipped=_by_reason(of["skipped"]),
            errors=_by_reason(of["error"]),
            released_similarity=histogram([case.similarity for case in cases]),
            refused_similarity=histogram([one.similarity for one in refused if one.similarity is not None]),
            nearest_similarity=histogram([case.nearest for case in cases if case.nearest is not None]),
            first=sum(case.rank == 1 for case in cases),
            beyond=_count_beyond(cases, self._summary),
            attempts=_by_number(one.attempt for one in released),
            coarsening=_by_number(one.coarsening for one in released),
            worst=tuple(sorted(cases, key=lambda case: (-case.similarity, case.id))[:WORST]),
            settings=self._settings,
            summary=self._summary,
            later=self._later,
        )


def _read_summary(data: object) -> Summary | None:
    try:
        return Summary.from_dict(data)
    except ValueError:  # it is of another version
        return None


def _key(photo: str | None, face: int | None) -> object:
    """What tells outcomes apart that have names: the photo and, if each face has a portrait, the face."""
    return None if photo is None else (photo, face)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _count(value: object) -> int | None:
    if value is None or (isinstance(value, int) and 0 <= value < 1_000_000_000):
        return value
    raise ValueError(f"{value!r} is no count")


def _similarity(value: object) -> float | None:
    if value is None or (isinstance(value, int | float) and -2 < value < 2):
        return value
    raise ValueError(f"{value!r} is no similarity")


def _without_names(reason: str, line: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Return a reason in which the name of the photo and that of its portrait are replaced."""
    if "input" not in line:
        return reason
    photo = PurePath(line["input"])
    stem = f"{photo.with_suffix('')}{settings.get('suffix', '')}"
    portraits = [PurePath(f"{stem}{ending}") for ending in (".png", ".jpg", ".webp")]
    names = [name for path in (photo, *portraits) for name in (str(path), path.name)]
    for name in names:
        reason = reason.replace(name, "(name)")
    return reason


def _by_reason(outcomes: Iterable[_Outcome]) -> dict[str, int]:
    """Return the number of outcomes by reason; the most frequent reason comes first."""
    counts = Counter(one.reason for one in outcomes)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _by_number(numbers: Iterable[int | None]) -> tuple[int, ...]:
    """Return how often each number occurs, from 0 to the largest one."""
    counts = Counter(number for number in numbers if number is not None)
    return tuple(counts[number] for number in range(max(counts, default=-1) + 1))


def _count_beyond(cases: Iterable[Case], summary: Summary | None) -> int | None:
    if summary is None or summary.own is None:
        return None
    own, others, ranks = round(summary.own.value, 4), summary.others, summary.guard.effective_min_rank
    limit = round(others.value, 4) if others is not None and others.carried else math.inf
    return sum(
        case.similarity > own or case.rank <= ranks or (case.nearest is not None and case.nearest > limit)
        for case in cases
    )
