"""What is evaluated: originals, methods, and what is known of the people."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from anon_runtime import Anonymizer
from anon_runtime.errors import AnonError

from ..metrics import FEWEST
from . import utility
from .aligned_encoders import GUARD, file_encoder, guard_encoder, row_of
from .cache import Cache
from .encoders import ENCODERS, Embedded, Embedder, Encoder, cache_of
from .labels import HELD_OUT, Labels, age_bands, make_groups
from .pairs import ImageFile, Method
from .people import Numbers, find_people
from .predictors import FaceEngines, Reader
from .reidentification import Metric
from .requirements import MissingError
from .types import Figures, Mask, Vector

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Faces:
    """The embeddings of all images by one encoder.

    Attributes:
        metric: how they are compared.
        gallery: of the n originals.
        methods: of each method's images, in the order of its pairs.
        training: of the training set; None if it is not known.
    """

    metric: Metric
    gallery: Embedded
    methods: Mapping[str, Embedded]
    training: Embedded | None = None


@dataclass(frozen=True)
class Study:
    """What is evaluated.

    Attributes:
        originals: all originals, which are the gallery.
        methods: images of the anonymizers.
        labels: of the originals; None without labels.
        held_out: (n,), originals that the networks were not trained on; None if that is not known.
        engines: folder of the bundle whose face engines read images.
        cache: folder for the outputs of networks.
        identity: ONNX file of a user's own face-recognition network, which is one more encoder.
        training: the pictures that the generator was trained on; None if they are not known.
    """

    originals: Sequence[ImageFile]
    methods: Sequence[Method]
    labels: Labels | None
    held_out: Mask | None
    engines: Path
    cache: Path
    identity: Path | None = None
    training: Sequence[ImageFile] | None = None

    @cached_property
    def anonymizer(self) -> Anonymizer:
        """The bundle, whose face engines read images.

        Raises:
            MissingError: there is no such bundle, or it has no face engines.
        """
        try:
            anonymizer = Anonymizer.load(self.engines)
            anonymizer.engines["face_attributes"]
        except AnonError as error:
            raise MissingError("face engines", f"missing: {error}", "name a bundle with --engines") from None
        return anonymizer

    @cached_property
    def reader(self) -> Reader:
        """The bundle's face engines; see `anonymizer`."""
        return Reader(FaceEngines(self.anonymizer), Cache(self.cache / "readings.npz"))

    @cached_property
    def reading(self) -> Vector:
        """Readings (n, k) of the originals by the face engines."""
        return self.reader.read(self.originals, "originals")

    @cached_property
    def truth(self) -> utility.Truth:
        """Labels, or readings where there are no labels; everything is unknown without both."""
        try:
            reading = self.reading
        except MissingError:
            reading = np.full((len(self.originals), len(FaceEngines.columns)), np.nan)
        return utility.find_truth(self.labels, reading)

    @property
    def encoders(self) -> dict[str, Callable[[], Encoder]]:
        """The identity encoders by name: those of packages, the bundle's own, and the user's."""
        found = ENCODERS | {GUARD: lambda: guard_encoder(self.anonymizer)}
        if (path := self.identity) is not None:
            found[row_of(path)] = lambda: file_encoder(self.anonymizer, path)
        return found

    @cached_property
    def faces(self) -> dict[str, Faces | Figures]:
        """The embeddings by each encoder, or what it lacks."""
        found: dict[str, Faces | Figures] = {}
        for name, make in self.encoders.items():
            encoder = attempt(make)
            if isinstance(encoder, dict):
                found[name] = encoder
            else:
                found[encoder.name] = self.embed(encoder)
        return found

    def embed(self, encoder: Encoder) -> Faces:
        """The embeddings of all images by an encoder."""
        with cache_of(encoder, self.cache) as cache:
            embedder = Embedder(encoder, cache)
            gallery = embedder.originals(self.originals)
            made = {method.name: embedder.method(self.originals, method) for method in self.methods}
            training = None if self.training is None else embedder.originals(self.training, "training set")
        return Faces(encoder.metric, gallery, made, training)

    @cached_property
    def people(self) -> Numbers:
        """The number of each original's person (n,); near copies show one person."""
        return find_people(self.originals)

    @property
    def cells(self) -> list[tuple[str, str, str]]:
        """Ethnicity, sex and age band of each original; empty where unknown."""
        return list(zip(self.truth.ethnicity, self.truth.sex, age_bands(self.truth.age), strict=True))

    @cached_property
    def groups(self) -> dict[str, Mask]:
        """Masks (n,) over the originals by group."""
        groups = make_groups(self.truth.ethnicity, self.truth.sex, self.truth.age)
        if self.held_out is not None:
            groups = {HELD_OUT: self.held_out, "not held out": ~self.held_out} | groups
        return groups

    def masks(self, method: Method) -> dict[str, Mask]:
        """Masks over a method's images, for groups with at least `FEWEST` of them."""
        own = np.array(list(method.pairs))
        masks = {name: mask[own] for name, mask in self.groups.items()}
        return {name: mask for name, mask in masks.items() if mask.sum() >= FEWEST}


def attempt(make: Callable[[], T]) -> T | Figures:
    """What a row needs, or figures with a message about what is missing; the message is also logged."""
    try:
        return make()
    except MissingError as error:
        log.warning("%s", error)
        return {"missing": str(error)}
