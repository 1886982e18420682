"""The face reader: from photos to descriptions, by decoding, detection, attributes and prompts, in this order."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from ..errors import NoFaceError, PhotoError, UsageError
from ..timing import StageTimer
from ..types import Attributes, Description, EngineSource, Floats, PhotoSource, Pixels
from .attributes import ATTRIBUTE_ROLES, read_attributes
from .decoding import Decoded, load_photo
from .detection import Detector, Face, biggest_face, detect
from .identity import IdentityEncoder
from .prompt import PromptStyle, write_prompts
from .search import find_faces

MOST = 64  # faces that go through the networks together; a photo of a crowd shows hundreds


@dataclass(frozen=True)
class ReadingOptions:
    """The settings for reading photos, with a value for each of them.

    Attributes:
        detection_threshold: the lowest score of a face, 0..1.
        min_face: faces whose shorter side has fewer pixels than this are ignored.
        more_formats: whether to read BMP, GIF, PPM and TIFF as well.
        prompt_style: ``paper`` or ``natural``; see `write_prompts`.
        ignore: attributes that no prompt mentions.
        attributes: attributes to use instead of those that the engines compute; None to compute them.
        careful_threshold: the lowest score of a face where no face may be missed, 0..1; see `Detector`.
    """

    detection_threshold: float
    min_face: int = 0
    more_formats: bool = False
    prompt_style: PromptStyle = "paper"
    ignore: tuple[str, ...] = ()
    attributes: Attributes | None = None
    careful_threshold: float = 0.3


@dataclass(frozen=True)
class FoundFaces:
    """All faces of a photo.

    Attributes:
        people: the descriptions of those that can be described, the biggest first.
        others: those that are too small, or whose landmarks lie in one place.
    """

    people: tuple[Description, ...]
    others: tuple[Face, ...] = ()


class FaceReader:
    """A reader that describes the biggest face of each photo.

    Args:
        engines: ``face_detector`` and, unless the options give attributes, ``face_attributes``, ``face_age`` and
            ``face_race``.
        detector: the pre- and post-processing of the detection network.
        options: the settings for reading photos.
        encoder: the encoder that adds embeddings to descriptions; None to leave them out.
    """

    def __init__(
        self,
        engines: EngineSource,
        detector: Detector,
        options: ReadingOptions,
        encoder: IdentityEncoder | None = None,
    ) -> None:
        self._engines, self._detector, self.options, self._encoder = engines, detector, options, encoder

    def using(self, options: ReadingOptions, encoder: IdentityEncoder | None = None) -> Self:
        """Return a reader with the same engines and other settings.

        Args:
            options: the settings for reading photos.
            encoder: see the class.
        """
        return type(self)(self._engines, self._detector, options, encoder)

    def check(self) -> None:
        """Check that there are all engines that photos need.

        Raises:
            BundleError: an engine is missing.
            BackendError: the device is not available.
        """
        self._engines.require("face_detector", *(ATTRIBUTE_ROLES if self.options.attributes is None else ()))

    def detect(self, photos: Sequence[Pixels]) -> list[list[Face]]:
        """Return the faces of each photo, best first; see `detection.detect`."""
        return detect(self._engines["face_detector"], self._detector, photos, self.options.detection_threshold)

    def describe(self, photo: PhotoSource) -> Description:
        """Find the biggest face of a photo, read its attributes and write the prompts.

        Args:
            photo: the path of a file, a PIL image, or a uint8 array (height, width, 3), RGB.

        Raises:
            PhotoError: the photo cannot be read or shows no face.
            GenerationError: an engine returned NaN or infinity.
            BackendError: an engine cannot be loaded or run.
            BundleError: an engine is missing, or is not the one that was built.
        """
        result = self.describe_all([photo])[0]
        if isinstance(result, PhotoError):
            raise result
        return result

    def describe_all(self, photos: Sequence[PhotoSource]) -> list[Description | PhotoError]:
        """Describe several photos, which go through the engines as a batch; see `describe`.

        Args:
            photos: paths of files, PIL images, or uint8 arrays (height, width, 3), RGB.

        Returns:
            For each photo its description, or the error if this photo failed.

        Raises:
            GenerationError: an engine returned NaN or infinity.
            BackendError: an engine cannot be loaded or run.
            BundleError: an engine is missing, or is not the one that was built.
        """
        results: dict[int, Description | PhotoError] = {}
        decoded: dict[int, Decoded] = {}
        seconds: dict[int, float] = {}
        for i, photo in enumerate(photos):
            start = time.perf_counter()
            try:
                decoded[i] = load_photo(photo, more_formats=self.options.more_formats)
                decoded[i].log_conversion(_name(photo))
            except PhotoError as error:
                results[i] = error.of(_name(photo))
            seconds[i] = time.perf_counter() - start
        for i, result in zip(decoded, self.describe_decoded(list(decoded.values())), strict=True):
            if isinstance(result, Description):
                results[i] = replace(result, seconds={"decode": seconds[i]} | result.seconds)
            else:
                results[i] = result.of(_name(photos[i]))
        return [results[i] for i in range(len(photos))]

    def describe_decoded(self, photos: Sequence[Decoded]) -> list[Description | PhotoError]:
        """Describe photos that are decoded already; the errors do not name the photos. See `describe_all`."""
        self.check()
        timer = StageTimer()
        with timer("detect"):
            found = self.detect([photo.pixels for photo in photos])
        results: dict[int, Description | PhotoError] = {}
        chosen: dict[int, Face] = {}
        for i, (photo, faces) in enumerate(zip(photos, found, strict=True)):
            large = [face for face in faces if min(face.box[2:]) * photo.reduction >= self.options.min_face]
            if large:
                chosen[i] = biggest_face(large, *photo.pixels.shape[:2])
            else:
                results[i] = self._no_face(faces)
        with timer("attributes"):
            attributes = self._read_attributes([photos[i].pixels for i in chosen], list(chosen.values()))
        embedded = {i: self._embed(photos[i].pixels, face, timer) for i, face in chosen.items()}
        self._engines.verify()
        for (i, face), own in zip(chosen.items(), attributes, strict=True):
            described = self._describe(own, face, photos[i], timer.share(len(photos)))
            embedding = embedded[i]
            if isinstance(embedding, PhotoError):
                results[i] = embedding
            else:
                results[i] = replace(described, embedding=embedding)
        return [results[i] for i in range(len(photos))]

    def describe_faces(self, photo: Decoded, *, smallest: int = 0, careful: bool = False) -> FoundFaces:
        """Find all faces of a photo, also small ones, and describe them; see `find_faces`.

        Args:
            photo: the photo.
            smallest: faces whose shorter side has fewer pixels than this are not described.
            careful: whether no face may be missed, so that less certain ones count, too.

        Raises:
            GenerationError: an engine returned NaN or infinity.
            BackendError: an engine cannot be loaded or run.
            BundleError: an engine is missing, or is not the one that was built.
        """
        self.check()
        timer = StageTimer()
        with timer("detect"):
            threshold = self.options.careful_threshold if careful else self.options.detection_threshold
            faces = find_faces(self._engines["face_detector"], self._detector, photo.pixels, threshold)
        chosen: list[Face] = []
        embeddings: list[Floats | None] = []
        others: list[Face] = []
        for face in faces:
            large = min(face.box[2:]) * photo.reduction >= smallest
            embedding = self._embed(photo.pixels, face, timer) if large else None
            if not large or isinstance(embedding, PhotoError):
                others.append(face)
            else:
                chosen.append(face)
                embeddings.append(embedding)
        with timer("attributes"):
            parts = [chosen[i : i + MOST] for i in range(0, len(chosen), MOST)]
            attributes = [own for some in parts for own in self._read_attributes([photo.pixels] * len(some), some)]
        self._engines.verify()
        seconds = timer.share(max(1, len(chosen)))
        described = [
            replace(self._describe(own, face, photo, seconds), embedding=embedding)
            for own, face, embedding in zip(attributes, chosen, embeddings, strict=True)
        ]
        return FoundFaces(tuple(described), tuple(others))

    def describe_attributes(self) -> Description:
        """Return the description that follows from the options' attributes, without a photo.

        Raises:
            UsageError: the options hold no attributes.
        """
        if self.options.attributes is None:
            raise UsageError("nothing to describe", "there is neither a photo nor attributes", "give one of them")
        return self.write(dict(self.options.attributes))

    def write(self, attributes: Attributes) -> Description:
        """Return the description that follows from attributes.

        Args:
            attributes: the attributes; those that are left out reach no prompt.
        """
        prompts = write_prompts(attributes, self.options.prompt_style, self.options.ignore)
        return Description(*prompts, attributes)

    def _describe(self, own: Attributes, face: Face, photo: Decoded, seconds: dict[str, float]) -> Description:
        """Return the description of a face, in pixels of the photo as it was before it was reduced."""
        x, y, width, height = (side * photo.reduction for side in face.box)
        landmarks = face.landmarks.astype(np.float32) * np.float32(photo.reduction)
        return replace(self.write(own), face=(x, y, width, height), landmarks=landmarks, seconds=seconds)

    def _embed(self, photo: Pixels, face: Face, timer: StageTimer) -> Floats | PhotoError | None:
        if self._encoder is None:
            return None
        try:
            with timer("embed"):
                return self._encoder.embed(photo, face)
        except PhotoError as error:
            return error

    def _read_attributes(self, photos: Sequence[Pixels], faces: Sequence[Face]) -> list[Attributes]:
        if not photos or self.options.attributes is not None:
            return [dict(self.options.attributes or {}) for _ in photos]
        return read_attributes({role: self._engines[role] for role in ATTRIBUTE_ROLES}, photos, faces)

    def _no_face(self, faces: Sequence[Face]) -> NoFaceError:
        if faces:
            why = f"no face in it has {self.options.min_face} pixels or more"
            return NoFaceError(why, "use a larger photo, or allow smaller faces with `min_face`")
        return NoFaceError("no face was found in it", "use a photo that shows one, or lower `detection_threshold`")


def _name(photo: PhotoSource) -> str:
    return str(photo) if isinstance(photo, str | os.PathLike) else "the given image"
