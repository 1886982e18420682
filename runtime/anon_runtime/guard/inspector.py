"""The inspector: it looks at one portrait at a time, and decides whether it may be released."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..bundle.identity import IdentitySpec
from ..errors import BundleError, PhotoError
from ..faces.attributes import ATTRIBUTE_ROLES, read_attributes
from ..faces.detection import SECOND_DETECTOR_ROLE, Detector, Face, detect
from ..faces.identity import IDENTITY_ROLE, IdentityEncoder
from ..faces.search import find_faces
from ..types import Attributes, EngineSource, Floats, Mask, Pixels, Portrait
from .decision import Finding, Limits, decide, set_limits
from .options import GuardOptions
from .reference import Reference, Resemblance
from .trial import Attempt, Judged
from .words import NOBODY, Frequencies, agreement

SIDE = 320  # pixels; the face of a portrait is large, so that half the detector's usual size finds it


@dataclass(frozen=True)
class Look:
    """What a portrait shows.

    Attributes:
        faces: the number of faces.
        embedding: float32 (d,), the embedding of its face; None if there is not exactly one, or if it cannot be
            aligned.
        face: its only face; None in the same case.
    """

    faces: int
    embedding: Floats | None = None
    face: Face | None = None


@dataclass(frozen=True)
class Case:
    """A portrait to judge.

    Attributes:
        attempt: the attempt that it was painted in.
        portrait: the portrait.
        pixels: uint8 (height, width, 3), RGB, the portrait as readers of its file see it.
        words: the attributes that its prompts say.
        original: float32 (d,), the embedding of its original.
        region: bool (height, width), where its face is; None if it is a portrait, in which no other face may be.
    """

    attempt: Attempt
    portrait: Portrait
    pixels: Pixels
    words: Attributes
    original: Floats
    region: Mask | None = None


class Seen(NamedTuple):
    """A face of a whole photo.

    Attributes:
        face: the face.
        embedding: float32 (d,); None if it cannot be aligned.
    """

    face: Face
    embedding: Floats | None


@dataclass(frozen=True)
class Crowd:
    """All people of a run.

    Attributes:
        reference: the originals and the gallery, whom no portrait may resemble.
        limits: the limits for their number.
        frequencies: how many people of the run have each attribute.
    """

    reference: Reference
    limits: Limits
    frequencies: Frequencies = NOBODY


class Inspector:
    """An inspector of portraits.

    Portraits go through the networks one by one, because the last digits of outputs depend on the size of a batch, and
    a decision must not.

    Args:
        engines: ``face_detector``, ``face_identity`` and, to compare attributes, those that read them.
        detector: the pre- and post-processing of the detection network.
        threshold: the lowest score of a face, 0..1.
        spec: the manifest's entry for the face-recognition network; it has a calibration.
        options: the options of the guard.
        second: the pre- and post-processing of ``second_face_detector``, which looks at whole photos as well; None if
            there is no such engine.

    Raises:
        BundleError: the face-recognition network is not calibrated.
    """

    def __init__(
        self,
        engines: EngineSource,
        detector: Detector,
        threshold: float,
        spec: IdentitySpec,
        options: GuardOptions,
        second: Detector | None = None,
    ) -> None:
        if spec.calibration is None:
            why = f"nobody has measured how similar different people are to {spec.name}"
            fix = "run `anon-export calibrate-guard`, or turn the check off with `guard` off"
            raise BundleError("the check of portraits", why, fix)
        self._engines, self._detector, self._threshold, self._second = engines, detector, threshold, second
        self.encoder, self.calibration, self.options = IdentityEncoder(engines, spec), spec.calibration, options

    def check(self) -> None:
        """Check that there are all engines that the check of portraits needs.

        Raises:
            BundleError: an engine is missing.
        """
        self._engines.require("face_detector", IDENTITY_ROLE, *(ATTRIBUTE_ROLES if self.options.best_of > 1 else ()))

    def gather(self, reference: Reference, frequencies: Frequencies = NOBODY) -> Crowd:
        """Return all people of a run, with the limits that follow from their number.

        Args:
            reference: the originals and the gallery.
            frequencies: how many people of the run have each attribute.
        """
        return Crowd(reference, set_limits(self.calibration, self.options, reference.people), frequencies)

    def find(self, photo: Pixels) -> list[Face]:
        """Return all faces of a photo, best first.

        Args:
            photo: uint8 (height, width, 3), RGB.
        """
        return detect(self._engines["face_detector"], self._detector, [photo], self._threshold)[0]

    def see(self, photo: Pixels) -> list[Seen]:
        """Return all faces of a photo that one of the detectors finds, also small ones.

        Args:
            photo: uint8 (height, width, 3), RGB.

        Returns:
            The faces. One that both detectors find may be there twice, in slightly different places.

        Raises:
            GenerationError: an engine returned NaN or infinity.
        """
        faces = find_faces(self._engines["face_detector"], self._detector, photo, self._threshold)
        if (second := self._second) is not None:
            role = SECOND_DETECTOR_ROLE
            faces += find_faces(self._engines[role], second, photo, second.threshold, role=role)
        return [Seen(face, self._embed(photo, face)) for face in faces]

    def look(self, portrait: Pixels, region: Mask | None = None) -> Look:
        """Return what a portrait shows.

        Args:
            portrait: uint8 (height, width, 3), RGB.
            region: bool (height, width), where its face is; faces elsewhere are not looked at. None looks everywhere.

        Raises:
            GenerationError: an engine returned NaN or infinity.
        """
        faces = detect(self._engines["face_detector"], self._detector, [portrait], self._threshold, side=SIDE)[0]
        if region is not None:
            faces = [face for face in faces if _is_in(face, region)]
        if len(faces) != 1:
            return Look(len(faces))
        embedding = self._embed(portrait, faces[0])
        return Look(0) if embedding is None else Look(1, embedding, faces[0])

    def _embed(self, photo: Pixels, face: Face) -> Floats | None:
        try:
            return self.encoder.embed(photo, face)
        except PhotoError:  # its landmarks lie in one place: this is no face
            return None

    def judge(self, looks: Sequence[Look], originals: Sequence[Floats], crowd: Crowd) -> list[Finding]:
        """Return the finding for each portrait.

        Args:
            looks: what the portraits show.
            originals: float32 (d,), the embeddings of their originals.
            crowd: all people of the run.
        """
        shown = [i for i, look in enumerate(looks) if look.embedding is not None]
        resemblances: dict[int, Resemblance] = {}
        if shown:
            portraits = np.stack([embedding for look in looks if (embedding := look.embedding) is not None])
            owns = np.stack([originals[i] for i in shown])
            compared = crowd.reference.compare(portraits, owns, crowd.limits.link)
            resemblances = dict(zip(shown, compared, strict=True))
        return [decide(look.faces, resemblances.get(i), crowd.limits) for i, look in enumerate(looks)]

    def examine(self, cases: Sequence[Case], crowd: Crowd) -> list[Judged]:
        """Look at portraits and judge them.

        Args:
            cases: the portraits.
            crowd: all people of the run.

        Raises:
            GenerationError: an engine returned NaN or infinity.
        """
        looks = [self.look(case.pixels, case.region) for case in cases]
        findings = self.judge(looks, [case.original for case in cases], crowd)
        return [
            Judged(case.attempt, case.portrait, finding, look.embedding, self._agreement(case, look, finding))
            for case, look, finding in zip(cases, looks, findings, strict=True)
        ]

    def _agreement(self, case: Case, look: Look, finding: Finding) -> float:
        if self.options.best_of == 1 or look.face is None or finding.cause is not None:
            return 0.0
        read = read_attributes({role: self._engines[role] for role in ATTRIBUTE_ROLES}, [case.pixels], [look.face])
        return agreement(case.words, read[0])


def _is_in(face: Face, region: Mask) -> bool:
    x, y, width, height = face.box
    rows, columns = region.shape
    row, column = min(int(y + height / 2), rows - 1), min(int(x + width / 2), columns - 1)
    return bool(region[row, column])
