"""The pipeline of a folder run: its stages work at the same time, and each photo gives one record.

Photos are read and decoded, described, generated and written; each of these stages has its own threads. An error ends
the work on one photo only, unless it concerns all photos, such as a damaged bundle or a full disk.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from ..anonymizer import Anonymizer
from ..casting import Agreed
from ..diffusion.generator import TokenizedRequest
from ..errors import PhotoError
from ..guard.inspector import Crowd, Inspector
from ..guard.trial import Judged
from ..guard.words import NOBODY
from ..jobs import Job, SceneJob, Sitter
from ..timing import StageTimer
from ..types import Attributes, Floats, Portrait, Progress, Retouched
from .discovery import Photo
from .identity import key
from .intake import Intake, Opened
from .metadata import NOTHING, Metadata
from .notes import Notes
from .options import RunOptions
from .outcomes import Outcomes
from .records import Record
from .steps import Steps
from .survey import Described, Survey
from .threads import in_background
from .watch import Watch, gather
from .writer import Output


@dataclass(eq=False)
class Work:
    """The work on one picture.

    Attributes:
        described: the photo.
        job: the people who are painted.
        metadata: what stays of the photo's metadata.
        ended: whether its outcome is known, so that what is still painted for it is of no use.
    """

    described: Described
    job: Job
    metadata: Metadata = NOTHING
    ended: bool = False


@dataclass(frozen=True)
class Tokenized:
    """A face that is to be painted.

    Attributes:
        work: the work that it belongs to.
        sitter: the person.
        request: the tokenized request.
        words: the attributes that the prompts say.
    """

    work: Work
    sitter: Sitter
    request: TokenizedRequest
    words: Attributes


Waiting = dict[tuple[int, bool], list[Tokenized]]  # by kind; see `TokenizedRequest.kind`


@dataclass(frozen=True)
class Generated:
    """A picture that may be released and is not written yet.

    Attributes:
        work: the work that it comes from.
        picture: the portrait, or the photo with other faces.
        judged: the guard's findings; empty without a guard.
    """

    work: Work
    picture: Portrait | Retouched
    judged: tuple[Judged, ...] = ()


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
        agreed: the people whose faces are kept; None if there are none.
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
        agreed: Agreed | None = None,
        surveyed: Callable[[int], object] = lambda done: None,
    ) -> None:
        self.anonymizer, self._options, self._progress = anonymizer, options, progress
        self._outcomes = Outcomes(output, options, journal)
        self._output, self._gallery = output, gallery
        self.watch: Watch | None = None
        self._stop, self._surveyed = stop or threading.Event(), surveyed
        self._steps, self.timer = Steps(options.batch_size), StageTimer()
        self._intake = Intake(anonymizer, self._outcomes, options, self._steps, self.timer, agreed)

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
            with closing(self._intake.described(photos)) as described:
                yield from self._portraits(described)
            return
        survey = Survey(self.anonymizer.reader.options.attributes)
        yield from self.survey(photos, survey)
        if not self._stop.is_set():
            self.post(inspector, gather([survey, self._gallery], inspector))
            yield from self.release(survey)

    @property
    def more(self) -> int:
        """How many more pictures than photos there are, as far as is known."""
        return self._intake.more

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
        self.watch = Watch(self.anonymizer, inspector, self._output, self._outcomes, crowd, secret)
        return self.watch

    def survey(self, photos: Iterable[Photo], survey: Survey) -> Iterator[Record]:
        """Describe photos and add them to a survey; yield the records of those that failed.

        Args:
            photos: the photos.
            survey: the survey.

        Raises:
            AnonError: the run cannot continue, for example because of the bundle or an engine.
        """
        with closing(self._intake.described(photos)) as described:
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

    def _portraits(self, described: Iterable[Described | Record]) -> Iterator[Record]:
        ahead = self._options.batch_size
        opened = self._intake.opened(described)
        generated = in_background(self._generate(opened), ahead=ahead)
        written = in_background((self._write(item) for item in generated), ahead=ahead)
        with closing(opened), closing(generated), closing(written):
            yield from written

    def descriptions(self, photos: Iterable[Photo]) -> Iterator[Record]:
        """Describe photos without generating portraits, and yield the record of each photo.

        Args:
            photos: the photos.

        Raises:
            AnonError: the run cannot continue, for example because of the bundle or an engine.
        """
        with closing(self._intake.described(photos)) as described:
            for item in described:
                if isinstance(item, Record):
                    yield item
                else:
                    yield self._outcomes.describe(item)

    def _recall(self, items: Iterable[Described], watch: Watch) -> Generator[Described | Record, None, None]:
        """Yield photos that need work, and the records of those whose outcome an earlier run has found."""
        for item in items:
            if self._stop.is_set():
                return
            with self.timer("guard"):
                known = self._steps.each("guard", [item], watch.recall, steady=True)[0]
            if isinstance(known, Exception):
                yield self._outcomes.fail(item.photo, item.identity, known)
            else:
                yield item if known is None else known

    def _generate(self, opened: Iterable[Opened | Record]) -> Generator[Generated | Record, None, None]:
        """Paint faces in batches of the same kind; records pass through."""
        waiting: Waiting = {}
        for item in opened:
            if self._stop.is_set():
                return
            if isinstance(item, Record):
                yield item
                continue
            work = self._begin(item)
            if not work.job.sitters:
                yield from self._complete(work, waiting)
            self._enqueue(waiting, work, work.job.waiting)
            yield from self._work_off(waiting, self._options.batch_size)
        yield from self._work_off(waiting, 1)

    def _begin(self, item: Opened) -> Work:
        described, guard = item.described, self.anonymizer.guard
        first, seed = self._outcomes.begin(described.identity), described.identity.seed
        if item.decoded is None:
            return Work(described, Job(described.cast.people, seed, guard, first))
        job = self.anonymizer.scene_job(item.decoded, described.cast, seed, first)
        return Work(described, job, item.metadata)

    def _enqueue(self, waiting: Waiting, work: Work, sitters: Iterable[Sitter]) -> None:
        """Let the next attempts for people wait for others of the same kind."""
        frequencies = self.watch.crowd.frequencies if self.watch else NOBODY
        for sitter in sitters:
            request, words = work.job.request(sitter, self.anonymizer.reader, frequencies)
            tokenized = self.anonymizer.generator.tokenize(request)
            waiting.setdefault(tokenized.kind, []).append(Tokenized(work, sitter, tokenized, words))

    def _work_off(self, waiting: Waiting, least: int) -> Iterator[Generated | Record]:
        """Generate the groups that have at least so many members, until there is none; further attempts wait again."""
        while group := next((group for group in waiting.values() if len(group) >= least), None):
            if self._stop.is_set():
                return
            batch = group[: self._options.batch_size]
            del group[: self._options.batch_size]
            yield from self._generate_group([item for item in batch if not item.work.ended], waiting)

    def _generate_group(self, items: Sequence[Tokenized], waiting: Waiting) -> Iterator[Generated | Record]:
        """Generate a batch; yield the pictures that are finished by it, and records."""
        with self.timer("generate"):
            results = self._steps.each("generate", items, self._generate_batch)
        painted: list[tuple[Tokenized, Portrait]] = []
        for item, result in zip(items, results, strict=True):
            if isinstance(result, Portrait):
                painted.append((item, result))
            else:
                yield from self._fail(item.work, result)
        yield from self._judge([(item, portrait) for item, portrait in painted if not item.work.ended])
        for item in items:
            if item.sitter.trial.attempt is not None and not item.work.ended:
                self._enqueue(waiting, item.work, [item.sitter])
        for work in dict.fromkeys(item.work for item in items):
            if not work.job.waiting:
                yield from self._complete(work, waiting)

    def _judge(self, painted: Sequence[tuple[Tokenized, Portrait]]) -> Iterator[Record]:
        """Give the guard's findings to the people's trials; yield records of photos that failed."""
        if self.watch is None:
            for item, portrait in painted:
                item.work.job.accept(item.sitter, portrait)
            return
        shown = self._output.shown
        cases = [item.work.job.case(item.sitter, portrait, item.words, shown) for item, portrait in painted]
        with self.timer("guard"):
            findings = self._steps.each("guard", cases, self.watch.examine, steady=True)
        for (item, _), judged in zip(painted, findings, strict=True):
            if isinstance(judged, Exception):
                yield from self._fail(item.work, judged)
            else:
                item.sitter.trial.add(judged)

    def _complete(self, work: Work, waiting: Waiting) -> Iterator[Generated | Record]:
        """Yield the picture of people who have all been painted, unless some of them have to be painted once more."""
        if work.ended:
            return
        with self.timer("guard"):
            result = self._steps.each("guard", [work], self._finish, steady=True)[0]
        if isinstance(result, Exception):
            yield from self._fail(work, result)
        elif result is None:
            self._enqueue(waiting, work, work.job.waiting)
        else:
            work.ended = True
            yield result

    def _finish(self, works: Sequence[Work]) -> list[Generated | Record | None]:
        """Return the picture or the refusal of a photo, or None if somebody has to be painted once more."""
        [work] = works
        if self.watch is not None:
            return [self._settle(work, self.watch)]
        job = work.job
        return [Generated(work, job.finish() if isinstance(job, SceneJob) else job.results()[0].portrait)]

    def _settle(self, work: Work, watch: Watch) -> Generated | Record | None:
        judged = watch.settle(work.described, work.job, partial(self._output.shown, metadata=work.metadata))
        if judged is None or isinstance(judged, Record):
            return judged
        return Generated(work, *judged)

    def _fail(self, work: Work, error: Exception) -> Iterator[Record]:
        if not work.ended:
            work.ended = True
            yield self._outcomes.fail(work.described.photo, work.described.identity, error)

    def _generate_batch(self, items: Sequence[Tokenized]) -> Sequence[Portrait]:
        return self.anonymizer.generator.generate([item.request for item in items], progress=self._progress)

    def _write(self, item: Generated | Record) -> Record:
        """Write a picture and then its line in the journal; records pass through."""
        if isinstance(item, Record):
            return item
        described = item.work.described
        start, photo, identity = time.perf_counter(), described.photo, described.identity
        try:
            with self.timer("write"):
                name, digest = self._outcomes.write(photo, identity, item.picture.image, item.work.metadata)
        except PhotoError as error:
            return self._outcomes.fail(photo, identity, error)
        seconds = {"write": time.perf_counter() - start}
        return self._outcomes.succeed(photo, identity, item.picture, name, digest, seconds, item.judged)
