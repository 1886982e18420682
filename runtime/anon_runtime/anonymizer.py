"""The whole process, as in the paper's figure: from a photo to the description of its biggest face to a portrait."""

import os
from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np

from .backends.engines import Engines
from .casting import Agreed, Cast, agree, cast_faces, cast_portraits
from .diffusion.generator import Generator
from .errors import UsageError
from .faces.decoding import Decoded, load_photo
from .faces.reader import FaceReader
from .guard.decision import Finding
from .guard.inspector import Crowd, Inspector, Seen
from .guard.options import GuardOptions
from .guard.reference import NOBODY, find_different, make_reference
from .guard.trial import FIRST, Attempt
from .guard.words import NOBODY as NO_FREQUENCIES
from .guard.words import Frequencies, count_attributes
from .jobs import Job, SceneJob, object_to
from .scene.places import find_place
from .settings import ResolvedSettings, Settings, find_second_detector
from .types import Box, Description, PhotoSource, Portrait, Progress, Request, Retouched


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
            BundleError: this runtime does not know a face detector of the bundle, a file of the bundle is damaged, or
                its face-recognition network is not calibrated.
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
        people = [self.describe(photo)]
        job = Job(people, seed, self.guard)
        self._paint(job, self.gather(people), progress)
        return job.results()[0].portrait

    def replace_faces(
        self,
        photo: PhotoSource,
        *,
        seed: int = 0,
        keep: Sequence[PhotoSource] = (),
        boxes: Sequence[Box] | None = None,
        progress: Progress | None = None,
    ) -> Retouched:
        """Replace every face of a photo by that of a person who does not exist, and keep the rest of the photo.

        The guard compares each face with those of the photo, and looks at the photo again when it is finished.

        Args:
            photo: the path of a file, a PIL image, or a uint8 array (height, width, 3), RGB.
            seed: 0 .. 2**64 - 1; another seed gives other people.
            keep: photos of people who agreed to be shown, and whose faces stay as they are.
            boxes: x, y, width and height of the only faces that are replaced, in pixels of the upright photo; None
                replaces all that are found.
            progress: see `anonymize`.

        Raises:
            PhotoError: the photo cannot be read, shows no face, or is too large.
            RefusedError: no attempt gave faces that pass the guard, or a face would stay in the photo.
            UsageError: people are to be kept, and the guard is off, so that nobody can be recognized.
            BackendError: an engine cannot be loaded or run, or returned NaN or infinity.
            BundleError: an engine is missing, or is not the one that was built.
        """
        self.check(in_place=True)
        formats = self.reader.options.more_formats
        decoded = load_photo(photo, more_formats=formats)
        agreed = self.agreed(load_photo(one, more_formats=formats) for one in keep) if keep else None
        cast = self.cast(decoded, agreed, boxes)
        job, crowd = self.scene_job(decoded, cast, seed), self.gather(cast.people)
        while True:
            self._paint(job, crowd, progress)
            retouched = job.finish()
            if crowd is None or self.inspector is None:
                return retouched
            job.examine(self.inspector.see(np.asarray(retouched.image)), crowd.limits.own.value)
            if not job.waiting:
                job.results()
                return retouched

    @property
    def guard(self) -> GuardOptions:
        """The options of the guard."""
        return GuardOptions("off") if self.inspector is None else self.inspector.options

    def agreed(self, photos: Iterable[Decoded]) -> Agreed:
        """Return the people who agreed to be shown.

        Args:
            photos: photos of them, of which one is in memory at a time. All faces in these photos count.

        Raises:
            UsageError: nobody can be recognized, or no photo shows a face.
        """
        if self.inspector is None:
            raise UsageError("`keep`", "the guard is off, so that nobody can be recognized", "use `guard` strict")
        people = [one.embedding for photo in photos for one in self.reader.describe_faces(photo).people]
        embeddings = [embedding for embedding in people if embedding is not None]
        if not embeddings:
            raise UsageError("`keep`", "no photo of it shows a face", "use photos that show the people")
        return agree(np.stack(embeddings), self.inspector.calibration)

    def cast(self, photo: Decoded, agreed: Agreed | None = None, boxes: Sequence[Box] | None = None) -> Cast:
        """Decide what becomes of each face of a photo; see `cast_faces`."""
        return cast_faces(self.reader, photo, agreed=agreed, boxes=boxes)

    def cast_portraits(self, photo: Decoded) -> Cast:
        """Return the cast of a photo of which each face gets a portrait; see `casting.cast_portraits`."""
        return cast_portraits(self.reader, photo)

    def scene_job(self, photo: Decoded, cast: Cast, seed: int, first: Attempt = FIRST) -> SceneJob:
        """Return the job of a photo whose faces are replaced in place; see `SceneJob`."""
        spec = self.engines.bundle.manifest.generator
        shape = spec.height, spec.width
        return SceneJob(photo.pixels, cast, shape, spec.vae_scale_factor, seed, self.guard, first)

    def object_to(self, cast: Cast, seen: Sequence[Seen], limit: float) -> list[tuple[int | None, Finding]]:
        """Return what speaks against a photo in which faces were replaced; see `jobs.object_to`."""
        spec = self.engines.bundle.manifest.generator
        return object_to(cast, [find_place(face, (spec.height, spec.width)) for face in cast.removed], seen, limit)

    def gather(self, people: Sequence[Description]) -> Crowd | None:
        """Return the people of one photo, whom no picture of it may resemble; None without a guard.

        Args:
            people: the descriptions of the people.
        """
        if self.inspector is None:
            return None
        embeddings = [one.embedding for one in people if one.embedding is not None]
        if not embeddings:
            return self.inspector.gather(NOBODY)
        rows = np.stack(embeddings)
        different = find_different(rows)
        frequencies = Frequencies(len(different), {})  # attributes that the user has given are the same for everybody
        if self.reader.options.attributes is None:
            frequencies = count_attributes([people[i].attributes for i in different])
        return self.inspector.gather(make_reference(rows), frequencies)

    def _paint(self, job: Job, crowd: Crowd | None, progress: Progress | None) -> None:
        """Paint attempts until nobody waits for one."""
        size = self.engines.bundle.manifest.defaults.batch_size
        while waiting := job.waiting[:size]:
            frequencies = crowd.frequencies if crowd else NO_FREQUENCIES
            written = [job.request(sitter, self.reader, frequencies) for sitter in waiting]
            portraits = self.generate([request for request, _ in written], progress=progress)
            for sitter, (_, words), painted in zip(waiting, written, portraits, strict=True):
                if crowd is None or self.inspector is None:
                    job.accept(sitter, painted)
                else:
                    case = job.case(sitter, painted, words, np.asarray)
                    sitter.trial.add(self.inspector.examine([case], crowd)[0])

    def check(self, *, in_place: bool = False) -> None:
        """Check that there is everything that photos and portraits need.

        Args:
            in_place: whether faces are to be replaced in their photos.

        Raises:
            BundleError: the bundle lacks an engine.
            BackendError: the device is not available.
        """
        self.reader.check()
        self.generator.check(canvases=in_place)
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
    second = find_second_detector(engines.bundle.manifest)
    return Inspector(engines, resolved.detector, threshold, spec, resolved.guard, second)
