"""The pipeline of a folder run: its stages work at the same time, and each photo gives one record.

Photos are read and decoded, described, generated and written; each of these stages has its own threads. An error ends
the work on one photo only, unless it concerns all photos, such as a damaged bundle or a full disk.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Protocol, TypeVar

from ..anonymizer import Anonymizer
from ..diffusion.generator import TokenizedRequest
from ..errors import AnonError, BackendError, PhotoError
from ..faces.decoding import Decoded, decode_photo
from ..timing import StageTimer
from ..types import Description, Portrait, Progress
from .discovery import Photo
from .identity import Identity, identify
from .journal import Notes
from .options import RunOptions
from .outcomes import Outcomes
from .records import Record
from .threads import in_background, in_order
from .writer import Output

T = TypeVar("T")
MAX_ENGINE_FAILURES = 10  # photos in a row on which an engine fails, before the run ends
READERS = 2  # threads; decoding a photo takes far less time than generating an image


@dataclass(frozen=True)
class Loaded:
    """A decoded photo.

    Attributes:
        photo: the photo.
        identity: the identity of the photo.
        decoded: the pixels of the photo.
        seconds: the time for reading and decoding it.
    """

    photo: Photo
    identity: Identity
    decoded: Decoded
    seconds: float


@dataclass(frozen=True)
class Described:
    """A photo that was described and whose pixels are no longer in memory.

    Attributes:
        photo: the photo.
        identity: the identity of the photo.
        description: the description of its biggest face.
    """

    photo: Photo
    identity: Identity
    description: Description


@dataclass(frozen=True)
class Tokenized:
    """A described photo whose request was tokenized.

    Attributes:
        described: the photo and its description.
        request: the tokenized request.
    """

    described: Described
    request: TokenizedRequest


@dataclass(frozen=True)
class Generated:
    """A portrait that is not written yet.

    Attributes:
        photo: the photo.
        identity: the identity of the photo.
        portrait: the portrait of the photo.
    """

    photo: Photo
    identity: Identity
    portrait: Portrait


class Stop(Protocol):
    """The interface of a request to stop, such as `threading.Event`."""

    def is_set(self) -> bool:
        """Return whether the run is to stop."""
        ...


class FolderRun:
    """A run over many photos in this process.

    Args:
        anonymizer: reads photos and generates portraits.
        output: the place and the format of the portraits.
        options: the options of the run.
        journal: the journal of the output folder; None if no journal is kept.
        stop: when its ``is_set`` returns True, the run ends after the images that are being generated.
        progress: a function that is called with the number of evaluations that are done and the number of all, for the
            current batch of images.

    Attributes:
        timer: the time by stage.
    """

    def __init__(
        self,
        anonymizer: Anonymizer,
        output: Output,
        options: RunOptions,
        journal: Notes | None = None,
        *,
        stop: Stop | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._anonymizer, self._options, self._progress = anonymizer, options, progress
        self._outcomes = Outcomes(output, options, journal)
        self._stop = stop or threading.Event()
        self._engine_failures: Counter[str] = Counter()  # failures in a row, by stage
        self.timer = StageTimer()

    def records(self, photos: Iterable[Photo]) -> Iterator[Record]:
        """Anonymize photos, and yield the record of each photo as soon as it is known.

        Args:
            photos: the photos.

        Raises:
            AnonError: the run cannot continue, for example because of the bundle, an engine or the output folder.
        """
        ahead = self._options.batch_size
        loaded = in_order(self._load, photos, threads=READERS, ahead=ahead)
        described = in_background(self._describe(loaded), ahead=ahead)
        generated = in_background(self._generate(described), ahead=ahead)
        written = in_background((self._write(item) for item in generated), ahead=ahead)
        try:
            yield from written
        finally:
            for stage in (written, generated, described, loaded):
                stage.close()

    def descriptions(self, photos: Iterable[Photo]) -> Iterator[Record]:
        """Describe photos without generating portraits, and yield the record of each photo.

        Args:
            photos: the photos.

        Raises:
            AnonError: the run cannot continue, for example because of the bundle or an engine.
        """
        loaded = in_order(self._load, photos, threads=READERS, ahead=self._options.batch_size)
        for item in self._describe(loaded):
            if isinstance(item, Described):
                yield Record.described(item.description, str(item.photo.path), item.identity.seed)
            else:
                yield item

    def _load(self, photo: Photo) -> Loaded | Record:
        """Read and decode a photo, unless its portrait exists already."""
        start, identity = time.perf_counter(), None
        try:
            content = photo.read()
            identity = identify(content, self._options.seed)
            if (done := self._outcomes.find(photo, identity)) is not None:
                return done
            decoded = decode_photo(content, more_formats=self._anonymizer.reader.options.more_formats)
            decoded.log_conversion(str(photo.path))
            return Loaded(photo, identity, decoded, time.perf_counter() - start)
        except Exception as error:  # noqa: BLE001 - an error in one photo must not end the run
            return self._outcomes.fail(photo, identity, error)

    def _describe(self, loaded: Iterable[Loaded | Record]) -> Generator[Described | Record, None, None]:
        """Describe photos in batches; records of photos that failed or are done pass through."""
        for items in _batches(loaded, self._options.batch_size):
            yield from (item for item in items if isinstance(item, Record))
            with self.timer("describe"):
                photos = [item for item in items if isinstance(item, Loaded)]
                results = self._each("describe", photos, self._describe_batch)
            for item, result in zip(photos, results, strict=True):
                if isinstance(result, Description):
                    seconds = {"decode": item.seconds} | result.seconds
                    yield Described(item.photo, item.identity, replace(result, seconds=seconds))
                else:
                    yield self._outcomes.fail(item.photo, item.identity, result)

    def _describe_batch(self, items: Sequence[Loaded]) -> Sequence[Description | PhotoError]:
        return self._anonymizer.reader.describe_decoded([item.decoded for item in items])

    def _generate(self, described: Iterable[Described | Record]) -> Generator[Generated | Record, None, None]:
        """Generate portraits in batches of the same number of text windows; records pass through."""
        waiting: dict[int, list[Tokenized]] = {}
        for item in described:
            if self._stop.is_set():
                return
            if isinstance(item, Record):
                yield item
                continue
            request = item.description.request(item.identity.seed)
            tokenized = Tokenized(item, self._anonymizer.generator.tokenize(request))
            group = waiting.setdefault(tokenized.request.windows, [])
            group.append(tokenized)
            if len(group) == self._options.batch_size:
                yield from self._generate_group(group)
                group.clear()
        for group in waiting.values():
            if not self._stop.is_set():
                yield from self._generate_group(group)

    def _generate_group(self, items: Sequence[Tokenized]) -> Iterator[Generated | Record]:
        with self.timer("generate"):
            results = self._each("generate", items, self._generate_batch)
        for item, result in zip((item.described for item in items), results, strict=True):
            if isinstance(result, Portrait):
                yield Generated(item.photo, item.identity, result.of(item.description))
            else:
                yield self._outcomes.fail(item.photo, item.identity, result)

    def _generate_batch(self, items: Sequence[Tokenized]) -> Sequence[Portrait]:
        return self._anonymizer.generator.generate([item.request for item in items], progress=self._progress)

    def _each(
        self, stage: str, items: Sequence[Any], work: Callable[[Sequence[Any]], Sequence[T]]
    ) -> Sequence[T | Exception]:
        """Process a batch; if this fails, process its items one by one, so that one item cannot make the others fail.

        Libraries add numbers in another order if a batch holds only one item. This changes last digits, and sometimes a
        byte of the image. If batches hold more than one item, a single item is therefore processed twice in one batch,
        so that its result is the same as in a larger batch.

        Raises:
            AnonError: the error does not concern a photo or an engine, or an engine has failed too often in a row.
        """
        alone = len(items) == 1 and self._options.batch_size > 1
        try:
            results = work([*items, *items] if alone else items)[: len(items)] if items else []
        except Exception as error:
            if isinstance(error, AnonError) and not isinstance(error, PhotoError | BackendError):
                raise
            if len(items) > 1:
                return [self._each(stage, [item], work)[0] for item in items]
            self._engine_failures[stage] += isinstance(error, BackendError)
            if self._engine_failures[stage] >= MAX_ENGINE_FAILURES:
                raise
            return [error]
        del self._engine_failures[stage]
        return results

    def _write(self, item: Generated | Record) -> Record:
        """Write a portrait and then its line in the journal; records pass through."""
        if isinstance(item, Record):
            return item
        start = time.perf_counter()
        try:
            with self.timer("write"):
                name, digest = self._outcomes.write(item.photo, item.identity, item.portrait)
        except PhotoError as error:
            return self._outcomes.fail(item.photo, item.identity, error)
        seconds = {"write": time.perf_counter() - start}
        return self._outcomes.succeed(item.photo, item.identity, item.portrait, name, digest, seconds)


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
