"""The job for one photo: the people whose faces are painted, each with its attempts, and the picture that they give."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from .casting import Cast
from .errors import RefusedError
from .faces.reader import FaceReader
from .guard.decision import Finding
from .guard.inspector import Case, Seen
from .guard.options import GuardOptions
from .guard.trial import FIRST, Attempt, Judged, Trial
from .guard.words import NOBODY, Frequencies, coarsen
from .scene.places import Place
from .scene.scene import Scene, cut
from .types import Attributes, Description, Floats, Pixels, Portrait, Request, Retouched

Shown = Callable[[Image.Image], Pixels]
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Sitter:
    """A person for whom a face is painted.

    Attributes:
        description: the description of the person.
        seed: the seed of the first attempt.
        trial: the attempts.
    """

    description: Description
    seed: int
    trial: Trial


class Job:
    """The job of a portrait: one person, of whom nothing but words reaches the picture.

    Args:
        people: the descriptions of the people.
        seed: the seed of the photo; see `face_seed`.
        guard: the options of the guard.
        first: the first attempt.

    Attributes:
        sitters: the people, in the same order.
    """

    def __init__(self, people: Sequence[Description], seed: int, guard: GuardOptions, first: Attempt = FIRST) -> None:
        self._guard = guard
        self.sitters = [Sitter(one, face_seed(seed, i), Trial(guard, first)) for i, one in enumerate(people)]

    @property
    def waiting(self) -> list[Sitter]:
        """The people for whom another attempt has to be painted; nobody if nothing can be released any more."""
        if self.refused is not None:
            return []
        return [sitter for sitter in self.sitters if sitter.trial.attempt is not None]

    @property
    def refused(self) -> Sitter | None:
        """A person of whom no portrait passed the guard; None if there is nobody."""
        return next((sitter for sitter in self.sitters if sitter.trial.refused), None)

    def request(
        self, sitter: Sitter, reader: FaceReader, frequencies: Frequencies = NOBODY
    ) -> tuple[Request, Attributes]:
        """Return the request of a person's next attempt, and the attributes that its prompts say.

        Args:
            sitter: the person, who waits.
            reader: writes the prompts.
            frequencies: how many people of the run have each attribute.
        """
        attempt = _attempt(sitter)
        words = coarsen(sitter.description.attributes, attempt.coarsening, frequencies)
        return reader.write(words).request(attempt.seed(sitter.seed)), words

    def accept(self, sitter: Sitter, painted: Portrait) -> None:
        """Take a portrait of a person's current attempt that nobody judges.

        Args:
            sitter: the person.
            painted: the portrait.
        """
        attempt = _attempt(sitter)
        sitter.trial.add(Judged(attempt, _of(painted, sitter), Finding(None)))

    def case(self, sitter: Sitter, painted: Portrait, words: Attributes, shown: Shown) -> Case:
        """Return a portrait of a person's current attempt as a case for the inspector.

        Args:
            sitter: the person.
            painted: the portrait.
            words: the attributes that its prompts say.
            shown: returns an image as readers of its file see it.
        """
        pixels = shown(painted.image)
        return Case(_attempt(sitter), _of(painted, sitter), pixels, words, _embedding(sitter))

    def results(self) -> list[Judged]:
        """Return the portraits of all people, with their attempts and similarities.

        Raises:
            RefusedError: there is none of somebody.
        """
        if self.refused is not None:
            self.refused.trial.result()
        return [sitter.trial.result() for sitter in self.sitters]


class SceneJob(Job):
    """The job of a photo whose faces are replaced in place.

    Args:
        pixels: uint8 (height, width, 3), RGB, the photo.
        cast: what becomes of its faces.
        shape: height and width of the pictures that are painted, in pixels.
        block: the height and width of the pixels that a latent stands for.
        seed, guard, first: see `Job`.
    """

    def __init__(
        self,
        pixels: Pixels,
        cast: Cast,
        shape: tuple[int, int],
        block: int,
        seed: int,
        guard: GuardOptions,
        first: Attempt = FIRST,
    ) -> None:
        super().__init__(cast.people, seed, guard, first)
        self._cast = cast
        self._scene = Scene(pixels, cast.removed, shape, block)
        self._places: dict[Sitter, Place] = dict(zip(self.sitters, self._scene.places, strict=False))

    def request(
        self, sitter: Sitter, reader: FaceReader, frequencies: Frequencies = NOBODY
    ) -> tuple[Request, Attributes]:
        """Return the request of a person's next attempt, with a canvas that shows the photo without any faces."""
        request, words = super().request(sitter, reader, frequencies)
        return replace(request, canvas=self._scene.canvas(self._places[sitter])), words

    def case(self, sitter: Sitter, painted: Portrait, words: Attributes, shown: Shown) -> Case:
        """Return a portrait as a case for the inspector, who sees what the photo shows at this place."""
        place = self._places[sitter]
        pixels = cut(self._scene.compose([(place, np.asarray(painted.image))]), place)
        seen = shown(Image.fromarray(pixels))
        return Case(_attempt(sitter), _of(painted, sitter), seen, words, _embedding(sitter), place.mask())

    def finish(self) -> Retouched:
        """Return the photo with the portraits of all people in it."""
        people = tuple(judged.portrait for judged in self.results())
        images = [(place, np.asarray(one.image)) for place, one in zip(self._places.values(), people, strict=True)]
        seconds: dict[str, float] = {}
        for one in people:
            for stage, value in one.seconds.items():
                seconds[stage] = seconds.get(stage, 0.0) + value
        filled, kept = (tuple(face.box for face in faces) for faces in (self._cast.filled, self._cast.kept))
        return Retouched(Image.fromarray(self._scene.compose(images)), people, filled, kept, seconds)

    def examine(self, seen: Sequence[Seen], limit: float) -> None:
        """Let people wait for another attempt whose place shows one of the originals in the finished photo.

        If the guard only reports, nothing changes.

        Args:
            seen: the faces of the finished photo.
            limit: the similarity from which on a face counts as an original, -1..1.

        Raises:
            RefusedError: a face would stay in the photo.
        """
        objections = object_to(self._cast, self._scene.places, seen, limit)
        if self._guard.mode != "strict":
            for _, finding in objections:
                log.info("%s", finding.reason)
            return
        for number, finding in objections:
            if number is None:
                raise RefusedError(finding.reason, "lower `detection_threshold`, or leave this photo out")
        for number, finding in dict(objections).items():
            if number is not None:
                self.sitters[number].trial.reject(finding)


def object_to(
    cast: Cast, places: Sequence[Place], seen: Sequence[Seen], limit: float
) -> list[tuple[int | None, Finding]]:
    """Return what speaks against releasing a photo in which faces were replaced.

    Args:
        cast: what became of its faces.
        places: of the people, and of the faces that were filled.
        seen: the faces of the finished photo.
        limit: the similarity from which on a face counts as an original, -1..1.

    Returns:
        Findings, each with the number of the person whose place shows one of the originals of the photo; None for a
        face in another place, which is therefore one of the photo.
    """
    found: list[tuple[int | None, Finding]] = []
    originals = [one.embedding for one in cast.people if one.embedding is not None]
    for face, embedding in seen:
        there = [number for number, place in enumerate(places) if place.holds(face.box)]
        if not there and not any(_has_centre(kept.box, face.box) for kept in cast.kept):
            why = "a face of the photo, which was found only at the end, would stay in it"
            found.append((None, Finding(None, "face left", why)))
        own = max((float(one @ embedding) for one in originals if embedding is not None), default=-1.0)
        if own >= limit:
            why = f"a face in it resembles one of the photo (similarity {own:.2f}; {limit:.2f} is the limit)"
            found += [(number, Finding(None, "own original", why)) for number in there if number < len(cast.people)]
    return found


def face_seed(seed: int, number: int) -> int:
    """Return the seed of a face of a photo: that of the photo for the first face, and a hash of it for others.

    Args:
        seed: the seed of the photo.
        number: the number of the face, from 0; the biggest comes first.
    """
    if number == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"face {number} after {seed}".encode()).digest()[:4], "big")


def _attempt(sitter: Sitter) -> Attempt:
    if sitter.trial.attempt is None:
        raise RuntimeError("the trial is over")
    return sitter.trial.attempt


def _of(painted: Portrait, sitter: Sitter) -> Portrait:
    """The portrait of a person's current attempt, with what is known about the person."""
    attempt = _attempt(sitter)
    numbered = replace(painted, attempt=attempt.number, coarsening=attempt.coarsening)
    return numbered.of(sitter.description)


def _embedding(sitter: Sitter) -> Floats:
    embedding = sitter.description.embedding
    if embedding is None:
        raise RuntimeError("a photo was described without the guard")
    return np.asarray(embedding, np.float32)


def _has_centre(box: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    x, y = other[0] + other[2] / 2, other[1] + other[3] / 2
    return box[0] <= x <= box[0] + box[2] and box[1] <= y <= box[1] + box[3]
