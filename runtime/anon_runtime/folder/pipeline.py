"""Many photos: a pipeline whose stages work at the same time, and one record a photo whatever happens to it.

Photos are read and decoded, described in words, and portraits generated and written, each stage on threads of its own.
What fails, fails for one photo, unless no other could do better: a damaged bundle, a full disk.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from ..anonymizer import Anonymizer, Progress
from ..errors import AnonError, BackendError, GenerationError, NoFaceError, PhotoError
from ..faces.attributes import Attributes
from ..faces.decoding import Decoded, decode_photo
from ..timing import StageTimer
from ..types import Description, Portrait
from .discovery import Photo
from .identity import Identity, identify, identify_source
from .journal import Notes
from .threads import in_background, in_order
from .writer import Output

T = TypeVar("T")
MAX_ENGINE_FAILURES = 10  # in a row, each with a photo of its own; the next ones would fail, too
INTERNAL = "please report it"
READERS = 2  # threads; decoding a photo takes far less time than generating one


@dataclass(frozen=True)
class Record:
    """What became of a photo or a prompt: one line of ``--json``.

    Attributes:
        status: ``ok``, ``skipped``, ``error``, or ``done`` for what an earlier run did; only ``ok`` and ``done`` have
            an output.
        reason: why there is no output.
        face: x, y, width, height in pixels of the upright photo.
        seconds: time by stage, and ``total``.
    """

    input: str | None
    output: str | None
    status: str
    reason: str | None
    seed: int | None
    prompt: str | None = None
    negative_prompt: str | None = None
    attributes: Attributes | None = None
    face: tuple[float, float, float, float] | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, p: Portrait, source: str | None, output: Path, seconds: dict[str, float]) -> Self:
        """Of a portrait that was written; ``seconds`` are those beside its own."""
        seconds = p.seconds | seconds
        seconds["total"] = sum(seconds.values())
        return cls(source, str(output), "ok", None, p.seed, p.prompt, p.negative_prompt, p.attributes, p.face, seconds)

    def to_dict(self) -> dict[str, Any]:
        """The record as plain JSON types, with seconds rounded to milliseconds."""
        return asdict(self) | {"seconds": {stage: round(value, 3) for stage, value in self.seconds.items()}}


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
        anonymizer: with the settings of the run.
        output: where portraits go.
        journal: of the output folder; without one, nothing is remembered.
        stop: once its ``is_set`` is true, the run ends after the images that are being generated.
        log_attributes: write what was read from the photos into the journal.
        progress: called with evaluations done and in all, for the images at hand.
    """

    def __init__(
        self, anonymizer: Anonymizer, output: Output, journal: Notes | None = None, *,
        stop: Stop | None = None, log_attributes: bool = False, progress: Progress | None = None,
    ) -> None:  # fmt: skip
        self._anonymizer, self._output, self._journal = anonymizer, output, journal
        self._stop = stop or threading.Event()
        self._log_attributes, self._progress = log_attributes, progress
        self._engine_failures: Counter[str] = Counter()  # in a row, by stage
        self.clock = StageTimer()

    def records(self, photos: Iterable[Photo]) -> Iterator[Record]:
        """Anonymize photos; yields what became of each, as it becomes known.

        Raises:
            AnonError: the run itself cannot go on (bundle, engines, output folder).
        """
        batch = self._anonymizer.batch_size
        loaded = in_order(self._load, photos, threads=READERS, ahead=batch)
        described = in_background(self._describe(loaded, batch), ahead=batch)
        generated = in_background(self._generate(described, batch), ahead=batch)
        written = in_background((self._write(item) for item in generated), ahead=batch)
        try:
            yield from written
        finally:
            for stage in (written, generated, described, loaded):
                stage.close()

    def descriptions(self, photos: Iterable[Photo]) -> Iterator[Record]:
        """Only the first half of `records`: what the photos would be generated from."""
        batch = self._anonymizer.batch_size
        for item in self._describe(in_order(self._load, photos, threads=READERS, ahead=batch), batch):
            if isinstance(item, Described):
                d = item.description
                seconds = d.seconds | {"total": sum(d.seconds.values())}
                r = d.request
                yield Record(str(item.photo.path), None, "ok", None, r.seed, r.prompt, r.negative_prompt,
                             d.attributes, d.face, seconds)  # fmt: skip
            else:
                yield item

    def _load(self, photo: Photo) -> Loaded | Record:
        """Read and decode a photo, unless its portrait is there already."""
        start, identity = time.perf_counter(), None
        try:
            content = photo.read()
            identity = identify(content, self._anonymizer.settings.seed)
            name = self._output.name(photo, identity)
            if self._journal is not None and self._journal.has(identity.pseudonym, name):
                return Record(str(photo.path), str(self._output.root / name), "done", None, identity.seed)
            if self._is_of_another(photo, identity, name):
                why = f"{name} is the portrait of another photo of that name"
                raise PhotoError(
                    str(photo.path), why, "run them into different folders, or replace it with --overwrite"
                )
            decoded = decode_photo(content, str(photo.path), more_formats=self._anonymizer.settings.more_formats)
            return Loaded(photo, identity, decoded, time.perf_counter() - start)
        except Exception as error:
            return self._failure(photo, identity, error)

    def _describe(self, loaded: Iterable[Loaded | Record], batch: int) -> Generator[Described | Record, None, None]:
        """Photos to words, by batches; what failed before passes through."""
        for items in _batches(loaded, batch):
            yield from (item for item in items if isinstance(item, Record))
            with self.clock("describe"):
                photos = [item for item in items if isinstance(item, Loaded)]
                results = self._each(photos, self._describe_some)
            for item, result in zip(photos, results, strict=True):
                if isinstance(result, Description):
                    request = replace(result.request, seed=item.identity.seed)
                    seconds = {"decode": item.seconds} | result.seconds
                    yield Described(item.photo, item.identity, replace(result, request=request, seconds=seconds))
                else:
                    yield self._failure(item.photo, item.identity, result)

    def _describe_some(self, items: Sequence[Loaded]) -> Sequence[Description | PhotoError]:
        return self._anonymizer.describe_decoded([item.decoded for item in items])

    def _generate(
        self, described: Iterable[Described | Record], batch: int
    ) -> Generator[Generated | Record, None, None]:  # fmt: skip
        """Words to portraits, by batches of prompts that need equally many windows of text."""
        waiting: dict[int, list[Described]] = {}
        for item in described:
            if self._stop.is_set():
                return
            if isinstance(item, Record):
                yield item
                continue
            group = waiting.setdefault(self._anonymizer.count_windows(item.description.request), [])
            group.append(item)
            if len(group) == batch:
                yield from self._generate_batch(group)
                group.clear()
        for group in waiting.values():
            if not self._stop.is_set():
                yield from self._generate_batch(group)

    def _generate_batch(self, items: Sequence[Described]) -> Iterator[Generated | Record]:
        with self.clock("generate"):
            results = self._each(items, self._generate_some)
        for item, result in zip(items, results, strict=True):
            if isinstance(result, Portrait):
                yield Generated(item.photo, item.identity, result.of(item.description))
            else:
                yield self._failure(item.photo, item.identity, result)

    def _generate_some(self, items: Sequence[Described]) -> Sequence[Portrait]:
        requests = [item.description.request for item in items]
        return self._anonymizer.generate(requests, progress=self._progress)

    def _each(self, items: Sequence[Any], work: Callable[[Sequence[Any]], Sequence[T]]) -> Sequence[T | Exception]:
        """BuildPlan on a batch; if that fails, on one after the other, so that one does not take the others down.

        Runtimes add up in another order where a batch holds one: a last digit, which is a byte now and then. Where
        batches hold more, one that is alone is worked on twice, so that it comes out as it does among others.

        Raises:
            AnonError: the fault is not the photos', or the engines have failed too often in a row.
        """
        alone = len(items) == 1 and self._anonymizer.batch_size > 1
        try:
            results = work([*items, *items] if alone else items)[: len(items)] if items else []
        except Exception as error:
            if isinstance(error, AnonError) and not isinstance(error, PhotoError | BackendError):
                raise
            if len(items) > 1:
                return [self._each([item], work)[0] for item in items]
            self._engine_failures[work.__name__] += isinstance(error, BackendError)
            if self._engine_failures[work.__name__] >= MAX_ENGINE_FAILURES:
                raise
            return [error]
        del self._engine_failures[work.__name__]
        return results

    def _write(self, item: Generated | Record) -> Record:
        """Write a portrait, then its line in the journal; what failed before passes through."""
        if isinstance(item, Record):
            return item
        p, name, start = item.portrait, self._output.name(item.photo, item.identity), time.perf_counter()
        try:
            with self.clock("write"):
                digest = self._output.write(
                    name, p.image, self._journal.scratch if self._journal else None, replace=self._may_replace(name)
                )
        except PhotoError as error:
            return self._failure(item.photo, item.identity, error)
        seconds = {"write": time.perf_counter() - start}
        record = Record.of(p, str(item.photo.path), self._output.root / name, seconds)
        self._note(item.photo, item.identity, record, output=str(name), sha256=digest)
        return record

    def _failure(self, photo: Photo, identity: Identity | None, error: Exception) -> Record:
        """The record of a photo that has no portrait."""
        stays = "" if self._clear(photo, identity) else "; the file under its portrait's name stays"
        match error:
            case GenerationError():
                shown = PhotoError(f"{photo.path}: {error.what}", error.why, error.fix)
            case PhotoError():
                shown = type(error)(str(photo.path), error.why, error.fix)
            case AnonError():
                shown = PhotoError(f"{photo.path}: {error.what}", error.why, error.fix)
            case _:
                shown = PhotoError(str(photo.path), f"internal error ({type(error).__name__}: {error})", INTERNAL)
        skipped = isinstance(error, NoFaceError) and self._anonymizer.settings.no_face == "skip"
        seed = identity.seed if identity else None
        record = Record(str(photo.path), None, "skipped" if skipped else "error", f"{shown}{stays}", seed)
        # What a library says may hold the photo's name.
        why = f"internal error ({type(error).__name__})" if shown.fix == INTERNAL else shown.why
        self._note(photo, identity, record, reason=f"{why}; {shown.fix}{stays}")
        return record

    def _clear(self, photo: Photo, identity: Identity | None) -> bool:
        """See to it that no portrait lies under the name of a photo that has none; false if a file has to stay.

        What no run wrote stays, and the portrait of a photo in another place, and all where not even the photo's
        content is known: a disk that goes away in the night takes no portraits with it. Whoever only describes photos
        has neither a journal nor a file for a portrait: nothing of theirs is removed.
        """
        if self._journal is None and self._output.file is None:
            return True
        if identity is None and self._output.rename == "hash":
            return True
        name = self._output.name(photo, identity)
        if not os.path.lexists(self._output.root / name):
            return True
        ours = self._journal is None or self._journal.lists(name)
        if identity is None or not ours or self._is_of_another(photo, identity, name):
            return False
        if self._journal is not None and self._journal.has(identity.pseudonym, name):
            return False  # a copy of the photo fared better
        self._output.remove(name)
        return True

    def _is_of_another(self, photo: Photo, identity: Identity, name: Path) -> bool:
        if self._journal is None or self._journal.overwrite or self._output.rename == "hash":
            return False
        return self._journal.is_of_another(name, identity.pseudonym, self._source(photo))

    def _may_replace(self, name: Path) -> bool:
        return self._journal is None or self._journal.overwrite or self._journal.lists(name)

    def _source(self, photo: Photo) -> str:
        place = os.path.abspath(photo.path) if isinstance(photo.path, Path) else str(photo.path)  # noqa: PTH100
        return identify_source(place, self._anonymizer.settings.seed)

    def _note(self, photo: Photo, identity: Identity | None, record: Record, **facts: str) -> None:
        """The record's line in the journal: no attributes unless they were asked for, no names if those are hidden."""
        if self._journal is None:
            return
        entry: dict[str, Any] = {"id": identity.pseudonym if identity else None, "status": record.status, **facts}
        if self._output.rename != "hash":
            entry["input"] = str(photo.name)
            if record.status == "ok":
                entry["source"] = self._source(photo)
        if record.status == "ok":
            entry |= {"seed": record.seed, "seconds": round(record.seconds["total"], 3)}
            if self._log_attributes:
                entry |= {"attributes": record.attributes, "prompt": record.prompt}
        self._journal.add(entry)


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
