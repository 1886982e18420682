"""The guard's part in a folder run: the survey of all originals, and the trial of each photo."""

import logging
from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np

from ..anonymizer import Anonymizer
from ..errors import RefusedError
from ..guard.inspector import Case, Crowd, Inspector
from ..guard.reference import NOBODY, make_reference
from ..guard.trial import Attempt, Judged
from ..guard.words import coarsen
from ..jobs import Job, SceneJob, Shown, face_seed
from ..types import Description, Floats, Pixels, Portrait, Retouched
from .outcomes import Outcomes
from .records import Person, Record
from .survey import Described, Survey, count
from .writer import Output

log = logging.getLogger(__name__)

Settled = tuple[Portrait | Retouched, tuple[Judged, ...]]


class Watch:
    """The guard of a folder run, when all people of the run are known.

    Args:
        anonymizer: finds the places of faces, and writes prompts.
        inspector: the inspector.
        output: the place and the format of the portraits.
        outcomes: the writer of outcomes.
        crowd: all people of the run.
        secret: a secret of the run, without which nobody can find out by a digest who the people are.

    Attributes:
        crowd: all people of the run.
        released: the embedding of each face that was released, by the pseudonym of its photo, followed by the number of
            the face if it was replaced in place.
    """

    def __init__(
        self,
        anonymizer: Anonymizer,
        inspector: Inspector,
        output: Output,
        outcomes: Outcomes,
        crowd: Crowd,
        secret: bytes,
    ) -> None:
        self._anonymizer, self._inspector, self._output, self._outcomes = anonymizer, inspector, output, outcomes
        self.crowd, self._digest = crowd, crowd.reference.digest(secret)
        self.released: dict[str, Floats] = {}

    def recall(self, items: Sequence[Described]) -> list[Record | None]:
        """Return the records of photos whose outcome is known from an earlier run, or None if a photo needs work.

        The portrait of an earlier run is judged again, since the people of this run may be others. If it does not pass
        any more, it is removed.

        Args:
            items: the photos.

        Raises:
            PhotoError: the portrait of another photo has the name of this photo's portrait.
            OutputError: a portrait that does not pass cannot be removed.
            GenerationError: an engine returned NaN or infinity.
        """
        return [self._recall(item) for item in items]

    def _recall(self, item: Described) -> Record | None:
        photo, identity = item.photo, item.identity
        record = self._outcomes.recall(photo, identity, self._digest)
        if record is None:
            return None
        if record.status == "refused":
            return self._known(record, item)
        pixels = self._output.read(self._output.name(photo, identity))
        if pixels is None:
            return None
        reason, similarity = self._look(item, pixels)
        if reason and self._inspector.options.mode == "strict":
            log.info("a picture of an earlier run does not pass any more, and is painted again: %s", reason)
            self._outcomes.withdraw(photo, identity)
            return None
        return self._known(replace(record, similarity=similarity), item)

    def _known(self, record: Record, item: Described) -> Record:
        """Return the record of an earlier run's outcome, with what is known about the people of the photo."""
        if record.status == "refused":
            if self._outcomes.in_place:
                return record
            return replace(record, attributes=item.description.attributes, face=item.description.face)
        attempt = self._outcomes.attempt(item.photo, item.identity)
        people = tuple(self._person(item, number, attempt) for number in range(len(item.cast.people)))
        if self._outcomes.in_place:
            filled, kept = (tuple(face.box for face in faces) for faces in (item.cast.filled, item.cast.kept))
            record = replace(record, people=people, filled=filled, kept=kept)
        else:
            [person] = people
            facts = {field.name: getattr(person, field.name) for field in fields(Person) if field.name != "similarity"}
            record = replace(record, **facts)
        return replace(record, attempt=attempt.number, coarsening=attempt.coarsening)

    def _person(self, item: Described, number: int, attempt: Attempt) -> Person:
        described = item.cast.people[number]
        words = coarsen(described.attributes, attempt.coarsening, self.crowd.frequencies)
        written = self._anonymizer.reader.write(words)
        seed = attempt.seed(face_seed(item.identity.seed, number))
        facts = seed, written.prompt, written.negative_prompt, described.attributes, described.face
        return Person(*facts, attempt.number, attempt.coarsening)

    def _look(self, item: Described, pixels: Pixels) -> tuple[str, float | None]:
        """Judge the picture of an earlier run; return the reason against it and its similarity to its original."""
        if self._outcomes.in_place:
            seen = self._inspector.see(pixels)
            found = self._anonymizer.object_to(item.cast, seen, self.crowd.limits.own.value)
            return " and ".join(finding.reason for _, finding in found), None
        look = self._inspector.look(pixels)
        finding = self._inspector.judge([look], [_embedding(item.description)], self.crowd)[0]
        if look.embedding is not None and (finding.cause is None or self._inspector.options.mode != "strict"):
            self.released[item.identity.pseudonym] = look.embedding
        return finding.reason, None if finding.resemblance is None else finding.resemblance.own

    def examine(self, cases: Sequence[Case]) -> list[Judged]:
        """Look at portraits and judge them; see `Inspector.examine`."""
        return self._inspector.examine(cases, self.crowd)

    def settle(self, item: Described, job: Job, shown: Shown) -> Settled | Record | None:
        """Return the picture of a job and the findings about it, or the record of a photo that is refused.

        A photo in which faces were replaced is looked at once more, as readers of its file see it. If a place shows an
        original, somebody has to be painted once more, and None is returned.

        Args:
            item: the photo.
            job: the job, in which nobody waits.
            shown: returns an image as readers of its file see it.

        Raises:
            OutputError: the journal cannot be written, or an earlier portrait cannot be removed.
            GenerationError: an engine returned NaN or infinity.
        """
        try:
            judged = tuple(job.results())
            picture: Portrait | Retouched = judged[0].portrait if not isinstance(job, SceneJob) else job.finish()
            if isinstance(job, SceneJob):
                job.examine(self._inspector.see(shown(picture.image)), self.crowd.limits.own.value)
            if job.waiting:
                return None
            job.results()
        except RefusedError as error:
            last = job.refused.trial.last if job.refused else None
            return self._outcomes.refuse(item, last, error, self._digest)
        for number, one in enumerate(judged, 1):
            if one.embedding is not None:
                self.released[f"{item.identity.pseudonym}{f'-{number}' * self._outcomes.in_place}"] = one.embedding
        return picture, judged


def gather(surveys: Sequence[Survey | None], inspector: Inspector) -> Crowd:
    """Return all people of a run, with the limits that follow from their number.

    Args:
        surveys: the originals and the gallery; None if there is no gallery.
        inspector: the inspector of the run.
    """
    some = [survey for survey in surveys if survey]
    if not some:
        return inspector.gather(NOBODY)
    reference = make_reference(np.concatenate([survey.embeddings for survey in some]))
    return inspector.gather(reference, count(some))


def _embedding(description: Description) -> Floats:
    if description.embedding is None:
        raise RuntimeError("a photo was described without the guard")
    return np.asarray(description.embedding, np.float32)
