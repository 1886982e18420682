"""Many photos: a pipeline whose stages work at the same time, and one record a photo whatever happens to it.

Photos are read and decoded, described in words, and portraits generated and written, each stage on threads of its own.
What fails, fails for one photo, unless no other could do better: a damaged bundle, a full disk.
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
MAX_ENGINE_FAILURES = 10  # in a row, each with a photo of its own; the next ones would fail, too
READERS = 2  # threads; decoding a photo takes far less time than generating an image


@dataclass(frozen=True)
class Loaded:
    """A photo in memory."""

    photo: Photo
    identity: Identity
    decoded: Decoded
    seconds: float


@dataclass(frozen=True)
class Described:
    """A photo of which only words are left."""

    photo: Photo
    identity: Identity
    description: Description


@dataclass(frozen=True)
class Tokenized:
    """A described photo whose prompts are token windows."""

    described: Described
    request: TokenizedRequest


@dataclass(frozen=True)
class Generated:
    """A portrait that is not written yet."""

    photo: Photo
    identity: Identity
    portrait: Portrait


class Stop(Protocol):
    """Something that says when to end, such as an event."""

    def is_set(self) -> bool:
        """Whether it is time."""
        ...


class FolderRun:
    """One run over many photos.

    Args:
        anonymizer: reads photos and generates portraits.
        output: where portraits go.
        options: of the run.
        journal: of the output folder; without one, nothing is remembered.
        stop: once its ``is_set`` is true, the run ends after the images that are being generated.
        progress: called with evaluations done and in all, for the images at hand.
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
        self._engine_failures: Counter[str] = Counter()  # in a row, by stage
        self.timer = StageTimer()

    def records(self, photos: Iterable[Photo]) -> Iterator[Record]:
        """Anonymize photos; yields what became of each, as it becomes known.

        Raises:
            AnonError: the run itself cannot go on (bundle, engines, output folder).
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
        """Only the first half of `records`: what the portraits would be generated from."""
        loaded = in_order(self._load, photos, threads=READERS, ahead=self._options.batch_size)
        for item in self._describe(loaded):
            if isinstance(item, Described):
                yield Record.described(item.description, str(item.photo.path), item.identity.seed)
            else:
                yield item

    def _load(self, photo: Photo) -> Loaded | Record:
        """Read and decode a photo, unless its portrait is there already."""
        start, identity = time.perf_counter(), None
        try:
            content = photo.read()
            identity = identify(content, self._options.seed)
            if (done := self._outcomes.find(photo, identity)) is not None:
                return done
            decoded = decode_photo(content, more_formats=self._anonymizer.reader.options.more_formats)
            decoded.log_conversion(str(photo.path))
            return Loaded(photo, identity, decoded, time.perf_counter() - start)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one photo, the others go on
            return self._outcomes.fail(photo, identity, error)

    def _describe(self, loaded: Iterable[Loaded | Record]) -> Generator[Described | Record, None, None]:
        """Photos to words, by batches; what failed before passes through."""
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
        """Words to portraits, by batches of prompts that need equally many windows of text."""
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
        """Work on a batch; if that fails, on one after the other, so that one does not take the others down.

        Runtimes add up in another order where a batch holds one: a last digit, which is a byte now and then. Where
        batches hold more, one that is alone is worked on twice, so that it comes out as it does among others.

        Raises:
            AnonError: the fault is not the photos', or the engines have failed too often in a row.
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
        """Write a portrait, then its line in the journal; what failed before passes through."""
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
