"""The whole process, as in the paper's figure: from a photo to the description of its biggest face to a portrait."""

import os
from collections.abc import Sequence
from typing import Self

import numpy as np

from .backends.engines import Engines
from .diffusion.generator import Generator
from .faces.reader import FaceReader
from .guard.inspector import Case, Inspector
from .guard.reference import make_reference
from .guard.trial import Trial
from .guard.words import coarsen
from .settings import ResolvedSettings, Settings
from .types import Description, PhotoSource, Portrait, Progress, Request


class Anonymizer:
    """An anonymizer, which turns photos of people into portraits of people who do not exist.

    Each of its three parts can also be used alone.

    Examples:
        >>> with Anonymizer.load("engines/demo") as anonymizer:  # doctest: +SKIP
        ...     portrait = anonymizer.anonymize("photo.jpg", seed=7)
        ...     portrait.image.save("portrait.png")

    Args:
        engines: the engines of a bundle.
        reader: the face reader, which makes descriptions from photos.
        generator: the generator, which makes portraits from requests.
        inspector: the guard's inspector, which checks portraits before they are released; None if the guard is off.
    """

    def __init__(
        self, engines: Engines, reader: FaceReader, generator: Generator, inspector: Inspector | None = None
    ) -> None:
        self.engines, self.reader, self.generator, self.inspector = engines, reader, generator, inspector

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        settings: Settings | None = None,
        *,
        device: str | None = None,
        threads: int | None = None,
        checksum: bool = True,
    ) -> Self:
        """Open a bundle and return an anonymizer for it; its engines are loaded when they are first needed.

        Args:
            path: the folder of the bundle.
            settings: the settings for reading photos and generating images; None means the bundle's defaults.
            device, threads, checksum: see `Engines.load`.

        Raises:
            BundleError: there is no bundle, or it is damaged.
            UsageError: the bundle cannot do what the settings ask for.
        """
        return cls.of(Engines.load(path, device=device, threads=threads, checksum=checksum), settings)

    @classmethod
    def of(cls, engines: Engines, settings: Settings | None = None) -> Self:
        """Return an anonymizer for engines that are open already; see `load`.

        Raises:
            BundleError: this runtime does not know the bundle's face detector, a file of the bundle is damaged, or its
                face-recognition network is not calibrated.
            UsageError: the bundle cannot do what the settings ask for.
        """
        resolved = (settings or Settings()).resolve(engines.bundle.manifest)
        inspector = _inspector(engines, resolved)
        encoder = None if inspector is None else inspector.encoder
        reader = FaceReader(engines, resolved.detector, resolved.reading, encoder)
        return cls(engines, reader, Generator.load(engines, resolved.sampling), inspector)

    def using(self, settings: Settings) -> Self:
        """Return an anonymizer with the same engines and other settings; see `load`."""
        resolved = settings.resolve(self.engines.bundle.manifest)
        inspector = _inspector(self.engines, resolved)
        encoder = None if inspector is None else inspector.encoder
        reader = self.reader.using(resolved.reading, encoder)
        return type(self)(self.engines, reader, self.generator.using(resolved.sampling), inspector)

    def anonymize(self, photo: PhotoSource, *, seed: int = 0, progress: Progress | None = None) -> Portrait:
        """Generate a new portrait with the attributes of the biggest face in a photo.

        The guard compares the portrait with the photo. It knows no other people here, unlike in a folder run.

        Args:
            photo: the path of a file, a PIL image, or a uint8 array (height, width, 3), RGB.
            seed: 0 .. 2**64 - 1; another seed gives another person.
            progress: a function that is called with the number of evaluations that are done and the number of all.

        Raises:
            PhotoError: the photo cannot be read or shows no face.
            RefusedError: no attempt gave a portrait that passes the guard.
            BackendError: an engine cannot be loaded or run, or returned NaN or infinity.
            BundleError: an engine is missing, or is not the one that was built.
        """
        self.check()
        description = self.describe(photo)
        if self.inspector is None or description.embedding is None:
            return self.generate([description.request(seed)], progress=progress)[0].of(description)
        trial, crowd = Trial(self.inspector.options), self.inspector.gather(make_reference(description.embedding[None]))
        while (attempt := trial.attempt) is not None:
            words = coarsen(description.attributes, attempt.coarsening)
            request = self.reader.write(words).request(attempt.seed(seed))
            portrait = self.generate([request], progress=progress)[0].of(description)
            case = Case(attempt, portrait, np.asarray(portrait.image), words, description.embedding)
            trial.add(self.inspector.examine([case], crowd)[0])
        return trial.result().portrait

    def check(self) -> None:
        """Check that there is everything that photos and portraits need.

        Raises:
            BundleError: the bundle lacks an engine.
            BackendError: the device is not available.
        """
        self.reader.check()
        self.generator.check()
        if self.inspector is not None:
            self.inspector.check()

    def describe(self, photo: PhotoSource) -> Description:
        """Return the description of a photo's biggest face; see `FaceReader.describe`."""
        return self.reader.describe(photo)

    def generate(self, requests: Sequence[Request], *, progress: Progress | None = None) -> list[Portrait]:
        """Return portraits that are generated from prompts; see `Generator.generate`."""
        return self.generator.generate(requests, progress=progress)

    def close(self) -> None:
        """Release the memory of the engines."""
        self.engines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _inspector(engines: Engines, resolved: ResolvedSettings) -> Inspector | None:
    spec = engines.bundle.manifest.identity
    if resolved.guard.mode == "off" or spec is None:
        return None
    threshold = resolved.reading.detection_threshold
    return Inspector(engines, resolved.detector, threshold, spec, resolved.guard)
