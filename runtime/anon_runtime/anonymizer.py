"""The whole way, as in the paper's figure: a photo, the words for its biggest face, a portrait from the words."""

import os
from collections.abc import Sequence
from typing import Self

from .backends.engines import Engines
from .diffusion.generator import Generator
from .faces.reader import FaceReader
from .settings import Settings, find_detector
from .types import Description, PhotoSource, Portrait, Progress, Request


class Anonymizer:
    """Turns photos of people into portraits of people who do not exist.

    Its three parts can be used alone: ``engines`` (a bundle's networks), ``reader`` (photos to descriptions) and
    ``generator`` (requests to portraits).

    Examples:
        >>> with Anonymizer.load("engines/demo") as anonymizer:  # doctest: +SKIP
        ...     portrait = anonymizer.anonymize("photo.jpg", seed=7)
        ...     portrait.image.save("portrait.png")
    """

    def __init__(self, engines: Engines, reader: FaceReader, generator: Generator) -> None:
        self.engines, self.reader, self.generator = engines, reader, generator

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
        """Open a bundle; its engines are loaded when they are first needed.

        Args:
            path: of the bundle.
            settings: how photos are read and images are generated; None is the bundle's way.
            device: what the engines run on: ``cpu``, ``cuda`` or ``tensorrt``; None is the best that there is.
            threads: of an engine on the CPU; None is one for each core.
            checksum: compare the files' sha256, or only their sizes, which is faster.

        Raises:
            BundleError: there is no bundle, or it is damaged.
            UsageError: the bundle cannot do what the settings ask for.
        """
        engines = Engines.load(path, device=device, threads=threads, checksum=checksum)
        return cls.of(engines, settings)

    @classmethod
    def of(cls, engines: Engines, settings: Settings | None = None) -> Self:
        """An anonymizer with engines that are open already; see `load`."""
        manifest = engines.bundle.manifest
        resolved = (settings or Settings()).resolve(manifest)
        reader = FaceReader(engines, find_detector(manifest), resolved.reading)
        return cls(engines, reader, Generator.load(engines, resolved.sampling))

    def using(self, settings: Settings) -> Self:
        """The same engines with other settings."""
        return self.of(self.engines, settings)

    def anonymize(self, photo: PhotoSource, *, seed: int = 0, progress: Progress | None = None) -> Portrait:
        """Generate a new portrait with the attributes of the biggest face in a photo.

        Args:
            photo: a file, a PIL image, or uint8 RGB (height, width, 3).
            seed: 0 .. 2**64 - 1; another one gives another person.
            progress: called with evaluations done and evaluations in all.

        Raises:
            PhotoError: the photo cannot be read or shows no face.
            BackendError: an engine cannot be run, or returned NaN or infinity.
        """
        self.check()
        description = self.describe(photo)
        return self.generate([description.request(seed)], progress=progress)[0].of(description)

    def check(self) -> None:
        """Make sure that there is all that photos and portraits need.

        Raises:
            BundleError: the bundle lacks an engine.
            BackendError: its device is not there.
        """
        self.reader.check()
        self.generator.check()

    def describe(self, photo: PhotoSource) -> Description:
        """The words that a photo's biggest face is described in; see `FaceReader.describe`."""
        return self.reader.describe(photo)

    def generate(self, requests: Sequence[Request], *, progress: Progress | None = None) -> list[Portrait]:
        """Portraits from prompts, as one batch; see `Generator.generate`."""
        return self.generator.generate(requests, progress=progress)

    def close(self) -> None:
        """Give back the memory of the engines."""
        self.engines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
