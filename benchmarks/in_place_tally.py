"""What a method of `benchmarks.in_place` has done so far, and the figures that follow."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from anon_runtime import Anonymizer

from . import in_place_metrics as metrics
from .composites import HIDDEN, Composite, TrueFace
from .evaluate.intervals import Interval, bootstrap
from .evaluate.reidentification import rank
from .evaluate.types import Vector
from .heads import straighten
from .in_place_judge import SAME, Judge
from .in_place_methods import Output
from .in_place_report import KINDS, SMALL, TURNED, Figures, Missed

WITHIN = 0.1  # of the photo's own gradient


@dataclass
class Tally:
    """What is known of a method so far: one entry for each face or picture that it released."""

    refused: dict[int, str] = field(default_factory=dict)
    refused_faces: int = 0
    outcomes: list[metrics.Outcome] = field(default_factory=list)
    people: list[int] = field(default_factory=list)
    embeddings: list[Vector] = field(default_factory=list)
    visible: list[bool] = field(default_factory=list)
    seams: list[metrics.Seam] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    missed: list[Missed] = field(default_factory=list)
    kinds: list[frozenset[str]] = field(default_factory=list)
    extra: int = 0
    outside: int = 0
    detected: int = 0
    matched: int = 0

    def figures(self, gallery: Vector) -> Figures:
        """The figures, where row i of the gallery (n, 128) is the embedding of person i."""
        fates = [one.fate for one in self.outcomes]
        first, same = recognized(self.embeddings, self.people, gallery)
        ratios = [one.after / one.before for one in self.seams if one.pixels]
        before, after = (sum(getattr(one, name) for one in self.seams) for name in ("before", "after"))
        return Figures(
            refused=self.refused,
            refused_faces=self.refused_faces,
            replaced=_share([fate == "replaced" for fate in fates]),
            removed=_share([fate == "removed" for fate in fates]),
            untouched=_share([fate == "untouched" for fate in fates]),
            untouched_by_kind={
                kind: _share([fate == "untouched" for fate, own in zip(fates, self.kinds, strict=True) if kind in own])
                for kind in KINDS
            },
            left=mean([one.left for one in self.outcomes]),
            extra=self.extra,
            outside=self.outside,
            seam=after / before if before else None,
            seams=_share([abs(ratio - 1) <= WITHIN for ratio in ratios]),
            found_again=bootstrap(first),
            painted_found_again=bootstrap(first[[fate == "replaced" for fate in fates]]),
            same=bootstrap(same),
            visible=_share(self.visible),
            detected=self.detected,
            matched=self.matched,
            attempts=mean(self.attempts),
            missed=self.missed,
        )


def recognized(embeddings: Sequence[Vector], own: Sequence[int], gallery: Vector) -> tuple[Vector, Vector]:
    """Who is recognized: whether a face's own person is the nearest one (n,), and near enough to be the same one (n,).

    Args:
        embeddings: (128,) for each face.
        own: the row of each face's person in the gallery.
        gallery: (m, 128).
    """
    ranking = rank(np.array(embeddings).reshape(-1, gallery.shape[1]), gallery, own, "euclidean")
    return ranking.hits(1), (ranking.same > 1 - SAME).astype(float)


def _share(values: Sequence[bool]) -> Interval:
    return bootstrap(np.array(values, float))


def mean(values: Sequence[float]) -> float | None:
    """The mean; None if there are no values."""
    return float(np.mean(values)) if values else None


def add(tally: Tally, number: int, composite: Composite, output: Output, anonymizer: Anonymizer, judge: Judge) -> None:
    """Add an output to what is known of its method.

    Args:
        tally: of the method.
        number: of the composite.
        composite: the input.
        output: of the method.
        anonymizer: whose detector counts the faces of the output.
        judge: who looks at each of its faces.
    """
    faces, boxes = composite.faces, [face.box for face in composite.faces]
    outcomes = metrics.outcomes(composite, output.pixels, output.painted)
    tally.outcomes += outcomes
    tally.extra += len(output.painted) - len(metrics.match(boxes, output.painted))
    tally.outside += metrics.changed_outside(composite, output.pixels, (*output.painted, *output.filled))
    tally.seams.append(metrics.seam(composite.pixels, output.pixels))
    tally.attempts += output.attempts
    found = [face.box for face in anonymizer.reader.detect([output.pixels])[0]]
    tally.detected += len(found)
    tally.matched += len(metrics.match(boxes, found))
    for face, outcome in zip(faces, outcomes, strict=True):
        person, side = face.pose.person, max(composite.pixels.shape)
        tally.kinds.append(kinds(face, side))
        after, before = (straighten(picture, face.pose) for picture in (output.pixels, composite.pixels))
        tally.people.append(face.person)
        tally.embeddings.append(judge.recognize(after, before, person.pixels))
        tally.visible.append(judge.sees(after, person.box))
        if outcome.fate == "untouched":
            tally.missed.append(
                Missed(number, person.name, face.box, max(face.box[2:]) / side, face.angle, face.hidden)
            )


def kinds(face: TrueFace, side: int) -> frozenset[str]:
    """Which of `KINDS` a face is, in a picture whose longer side is so long."""
    small, turned, hidden = max(face.box[2:]) < SMALL * side, abs(face.angle) > TURNED, face.hidden >= HIDDEN[0]
    return frozenset(kind for kind, is_so in zip(KINDS, (small, turned, hidden), strict=True) if is_so)
