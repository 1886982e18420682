"""The guard's part in a folder run: the survey of all originals, and the trial of each photo."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..errors import RefusedError
from ..faces.reader import FaceReader
from ..guard.inspector import Case, Crowd, Inspector
from ..guard.reference import NOBODY, make_reference
from ..guard.trial import Attempt, Judged, Trial
from ..guard.words import coarsen
from ..types import Attributes, Floats, Portrait, Request
from .outcomes import Outcomes
from .records import Record
from .survey import Described, Survey, count
from .writer import Output

log = logging.getLogger(__name__)


class Watch:
    """The guard of a folder run, when all people of the run are known.

    Args:
        reader: the face reader, which writes prompts.
        inspector: the inspector.
        output: the place and the format of the portraits.
        outcomes: the writer of outcomes.
        crowd: all people of the run.
        secret: a secret of the run, without which nobody can find out by a digest who the people are.

    Attributes:
        crowd: all people of the run.
        released: the embedding of each portrait that was released, by the pseudonym of its photo.
    """

    def __init__(
        self,
        reader: FaceReader,
        inspector: Inspector,
        output: Output,
        outcomes: Outcomes,
        crowd: Crowd,
        secret: bytes,
    ) -> None:
        self._reader, self._inspector, self._output, self._outcomes = reader, inspector, output, outcomes
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
        photo, identity, described = item.photo, item.identity, item.description
        record = self._outcomes.recall(photo, identity, self._digest)
        if record is None or record.status == "refused":
            return record and replace(record, attributes=described.attributes, face=described.face)
        pixels = self._output.read(self._output.name(photo, identity))
        if pixels is None:
            return None
        look = self._inspector.look(pixels)
        finding = self._inspector.judge([look], [_embedding(item)], self.crowd)[0]
        if finding.cause is not None and self._inspector.options.mode == "strict":
            log.info("a portrait of an earlier run does not pass any more, and is painted again: %s", finding.reason)
            self._outcomes.withdraw(photo, identity)
            return None
        if look.embedding is not None:
            self.released[identity.pseudonym] = look.embedding
        attempt = self._outcomes.attempt(photo, identity)
        words = self._reader.write(coarsen(described.attributes, attempt.coarsening, self.crowd.frequencies))
        return replace(
            record,
            seed=attempt.seed(identity.seed),
            prompt=words.prompt,
            negative_prompt=words.negative_prompt,
            coarsening=attempt.coarsening,
            attributes=described.attributes,
            face=described.face,
            attempt=attempt.number,
            similarity=None if finding.resemblance is None else finding.resemblance.own,
        )

    def request(self, item: Described, attempt: Attempt) -> tuple[Request, Attributes]:
        """Return the request of an attempt, and the attributes that its prompts say.

        Args:
            item: the photo.
            attempt: the attempt.
        """
        words = coarsen(item.description.attributes, attempt.coarsening, self.crowd.frequencies)
        return self._reader.write(words).request(attempt.seed(item.identity.seed)), words

    def case(self, item: Described, attempt: Attempt, portrait: Portrait, words: Attributes) -> Case:
        """Return a portrait as a case for the inspector, who sees what readers of the portrait's file see.

        Args:
            item: the photo.
            attempt: the attempt that the portrait was painted in.
            portrait: the portrait.
            words: the attributes that its prompts say.
        """
        return Case(attempt, portrait, self._output.shown(portrait.image), words, _embedding(item))

    def examine(self, cases: Sequence[Case]) -> list[Judged]:
        """Look at portraits and judge them; see `Inspector.examine`."""
        return self._inspector.examine(cases, self.crowd)

    def finish(self, item: Described, trial: Trial) -> Judged | Record:
        """Return the portrait that a trial has given, or the record of a photo of which no portrait passed.

        Args:
            item: the photo.
            trial: its trial, which is over.

        Raises:
            OutputError: the journal cannot be written, or an earlier portrait cannot be removed.
        """
        try:
            judged = trial.result()
        except RefusedError as error:
            return self._outcomes.refuse(item.photo, item.identity, trial.last, error, self._digest)
        if judged.embedding is not None:
            self.released[item.identity.pseudonym] = judged.embedding
        return judged


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


def _embedding(item: Described) -> Floats:
    embedding = item.description.embedding
    if embedding is None:
        raise RuntimeError("a photo was described without the guard")
    return np.asarray(embedding, np.float32)
