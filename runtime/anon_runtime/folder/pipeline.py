"""The pipeline of a folder run: its stages work at the same time, and each photo gives one record.

Photos are read and decoded, described, generated and written; each of these stages has its own threads. An error ends
the work on one photo only, unless it concerns all photos, such as a damaged bundle or a full disk.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Protocol, TypeVar

from ..anonymizer import Anonymizer
from ..diffusion.generator import TokenizedRequest
from ..errors import AnonError, BackendError, PhotoError
from ..faces.decoding import Decoded, decode_photo
from ..guard.inspector import Crowd, Inspector
from ..guard.options import GuardOptions
from ..guard.trial import Attempt, Judged, Trial
from ..timing import StageTimer
from ..types import Attributes, Description, Floats, Portrait, Progress
from .discovery import Photo
from .identity import Identity, identify, key
from .notes import Notes
from .options import RunOptions
from .outcomes import Outcomes
from .records import Record
from .survey import Described, Survey
from .threads import in_background, in_order
from .watch import Watch, gather
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
class Tokenized:
    """A described photo whose request was tokenized.

    Attributes:
        described: the photo and its description.
        request: the tokenized request.
        words: the attributes that the prompts say.
        attempt: the attempt that this is.
        trial: the attempts for this photo.
    """

    described: Described
    request: TokenizedRequest
    words: Attributes
    attempt: Attempt
    trial: Trial


@dataclass(frozen=True)
class Generated:
    """A portrait that may be released and is not written yet.

    Attributes:
        photo: the photo.
        identity: the identity of the photo.
        portrait: the portrait of the photo.
        judged: the guard's finding; None without a guard.
    """

    photo: Photo
    identity: Identity
    portrait: Portrait
    judged: Judged | None = None


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
        gallery: the people who must never appear.
        surveyed: a function that is called with the number of photos whose people are known.

    Attributes:
        anonymizer: see the arguments.
        timer: the time by stage.
        watch: the guard, when all people of the run are known; None before that, and without a guard.
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
        gallery: Survey | None = None,
        surveyed: Callable[[int], object] = lambda done: None,
    ) -> None:
        self.anonymizer, self._options, self._progress = anonymizer, options, progress
        self._outcomes = Outcomes(output, options, journal)
        self._output, self._gallery = output, gallery
        self.watch: Watch | None = None
        self._stop, self._surveyed = stop or threading.Event(), surveyed
        self._engine_failures: Counter[str] = Counter()  # failures in a row, by stage
        self.timer = StageTimer()

    def records(self, photos: Iterable[Photo]) -> Iterator[Record]:
        """Anonymize photos, and yield the record of each photo as soon as it is known.

        With a guard, all photos are described before the first portrait is generated, because a portrait must resemble
        nobody in any of them.

        Args:
            photos: the photos.

        Raises:
            AnonError: the run cannot continue, for example because of the bundle, an engine or the output folder.
        """
        if (inspector := self.anonymizer.inspector) is None:
            with closing(self._described(photos)) as described:
                yield from self._portraits(described)
            return
        survey = Survey(self.anonymizer.reader.options.attributes)
        yield from self.survey(photos, survey)
        if not self._stop.is_set():
            self.post(inspector, gather([survey, self._gallery], inspector))
            yield from self.release(survey)

    @property
    def crowd(self) -> Crowd | None:
        """All people of the run; None if they are not known, or without a guard."""
        return self.watch.crowd if self.watch else None

    @property
    def released(self) -> dict[str, Floats]:
        """The embeddings of the released portraits, by the pseudonyms of their photos; empty without a guard."""
        return self.watch.released if self.watch else {}

    def post(self, inspector: Inspector, crowd: Crowd) -> Watch:
        """Let the guard compare portraits with all people of the run.

        Args:
            inspector: the inspector.
            crowd: the people.

        Returns:
            The guard.
        """
        secret = key(self._options.seed)
        self.watch = Watch(self.anonymizer.reader, inspector, self._output, self._outcomes, crowd, secret)
        return self.watch

    def survey(self, photos: Iterable[Photo], survey: Survey) -> Iterator[Record]:
        """Describe photos and add them to a survey; yield the records of those that failed.

        Args:
            photos: the photos.
            survey: the survey.

        Raises:
            AnonError: the run cannot continue, for example because of the bundle or an engine.
        """
        with closing(self._described(photos)) as described:
            for done, item in enumerate(described, 1):
                if isinstance(item, Record):
                    yield item
                else:
                    survey.add(item)
                self._surveyed(done)
                if self._stop.is_set():
                    return

    def release(self, items: Iterable[Described]) -> Iterator[Record]:
        """Generate the portraits of described photos, release those that pass the guard, and yield their records.

        Args:
            items: the photos, of a run whose guard was posted.

        Raises:
            AnonError: the run cannot continue, for example because of the bundle, an engine or the output folder.
        """
        if self.watch is None:
            raise RuntimeError("no guard was posted")
        yield from self._portraits(self._recall(items, self.watch))

    def _described(self, photos: Iterable[Photo]) -> Generator[Described | Record, None, None]:
        ahead = self._options.batch_size
        loaded = in_order(self._load, photos, threads=READERS, ahead=ahead)
        with closing(loaded), closing(in_background(self._describe(loaded), ahead=ahead)) as described:
            yield from described

    def _portraits(self, described: Iterable[Described | Record]) -> Iterator[Record]:
        ahead = self._options.batch_size
        generated = in_background(self._generate(described), ahead=ahead)
        written = in_background((self._write(item) for item in generated), ahead=ahead)
        with closing(generated), closing(written):
            yield from written

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
            unguarded = self.anonymizer.inspector is None
            if unguarded and (known := self._outcomes.recall(photo, identity)) is not None:
                return known
            decoded = decode_photo(content, more_formats=self.anonymizer.reader.options.more_formats)
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
        return self.anonymizer.reader.describe_decoded([item.decoded for item in items])

    def _recall(self, items: Iterable[Described], watch: Watch) -> Generator[Described | Record, None, None]:
        """Yield photos that need a portrait, and the records of those whose outcome an earlier run has found."""
        for item in items:
            if self._stop.is_set():
                return
            with self.timer("guard"):
                known = self._each("guard", [item], watch.recall, steady=True)[0]
            if isinstance(known, Exception):
                yield self._outcomes.fail(item.photo, item.identity, known)
            else:
                yield item if known is None else known

    def _generate(self, described: Iterable[Described | Record]) -> Generator[Generated | Record, None, None]:
        """Generate portraits in batches of the same number of text windows; records pass through."""
        waiting: dict[int, list[Tokenized]] = {}
        inspector = self.anonymizer.inspector
        guard = GuardOptions("off") if inspector is None else inspector.options
        for item in described:
            if self._stop.is_set():
                return
            if isinstance(item, Record):
                yield item
                continue
            self._enqueue(waiting, item, Trial(guard, self._outcomes.begin(item.identity)))
            yield from self._work_off(waiting, self._options.batch_size)
        yield from self._work_off(waiting, 1)

    def _enqueue(self, waiting: dict[int, list[Tokenized]], item: Described, trial: Trial) -> None:
        """Let the next attempt for a photo, if there is one, wait for others of the same number of text windows."""
        if (attempt := trial.attempt) is None:
            return
        request, words = item.description.request(attempt.seed(item.identity.seed)), item.description.attributes
        if self.watch is not None:
            request, words = self.watch.request(item, attempt)
        tokenized = self.anonymizer.generator.tokenize(request)
        waiting.setdefault(tokenized.windows, []).append(Tokenized(item, tokenized, words, attempt, trial))

    def _work_off(self, waiting: dict[int, list[Tokenized]], least: int) -> Iterator[Generated | Record]:
        """Generate the groups that have at least so many members, until there is none; further attempts wait again."""
        while group := next((group for group in waiting.values() if len(group) >= least), None):
            if self._stop.is_set():
                return
            batch = group[: self._options.batch_size]
            del group[: self._options.batch_size]
            for result in self._generate_group(batch):
                if isinstance(result, Tokenized):
                    self._enqueue(waiting, result.described, result.trial)
                else:
                    yield result

    def _generate_group(self, items: Sequence[Tokenized]) -> Iterator[Generated | Record | Tokenized]:
        """Generate a batch; yield its portraits, its records, and the photos that need another attempt."""
        with self.timer("generate"):
            results = self._each("generate", items, self._generate_batch)
        painted: list[tuple[Tokenized, Portrait]] = []
        for item, result in zip(items, results, strict=True):
            if isinstance(result, Portrait):
                portrait = replace(result, attempt=item.attempt.number, coarsening=item.attempt.coarsening)
                painted.append((item, portrait.of(item.described.description)))
            else:
                yield self._outcomes.fail(item.described.photo, item.described.identity, result)
        if self.watch is not None:
            yield from self._judge(painted, self.watch)
            return
        for item, portrait in painted:
            yield Generated(item.described.photo, item.described.identity, portrait)

    def _judge(
        self, painted: Sequence[tuple[Tokenized, Portrait]], watch: Watch
    ) -> Iterator[Generated | Record | Tokenized]:
        """Judge portraits; yield those that may be released, records, and the photos that need another attempt."""
        cases = [watch.case(item.described, item.attempt, portrait, item.words) for item, portrait in painted]
        with self.timer("guard"):
            findings = self._each("guard", cases, watch.examine, steady=True)
        for (item, _), judged in zip(painted, findings, strict=True):
            photo, identity = item.described.photo, item.described.identity
            if isinstance(judged, Exception):
                yield self._outcomes.fail(photo, identity, judged)
                continue
            item.trial.add(judged)
            if item.trial.attempt is not None:
                yield item
                continue
            kept = watch.finish(item.described, item.trial)
            yield kept if isinstance(kept, Record) else Generated(photo, identity, kept.portrait, kept)

    def _generate_batch(self, items: Sequence[Tokenized]) -> Sequence[Portrait]:
        return self.anonymizer.generator.generate([item.request for item in items], progress=self._progress)

    def _each(
        self,
        stage: str,
        items: Sequence[Any],
        work: Callable[[Sequence[Any]], Sequence[T]],
        *,
        steady: bool = False,
    ) -> Sequence[T | Exception]:
        """Process a batch; if this fails, process its items one by one, so that one item cannot make the others fail.

        Libraries add numbers in another order if a batch holds only one item. This changes last digits, and sometimes a
        byte of the image. If batches hold more than one item, a single item is therefore processed twice in one batch,
        so that its result is the same as in a larger batch, unless the work is steady: then no result depends on a
        batch.

        Raises:
            AnonError: the error does not concern a photo or an engine, or an engine has failed too often in a row.
        """
        alone = len(items) == 1 and self._options.batch_size > 1 and not steady
        try:
            results = work([*items, *items] if alone else items)[: len(items)] if items else []
        except Exception as error:
            if isinstance(error, AnonError) and not isinstance(error, PhotoError | BackendError):
                raise
            if len(items) > 1:
                return [self._each(stage, [item], work, steady=steady)[0] for item in items]
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
        return self._outcomes.succeed(item.photo, item.identity, item.portrait, name, digest, seconds, item.judged)


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
