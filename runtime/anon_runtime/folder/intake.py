"""The first stages of a folder run: photos are read, decoded and described."""

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

from ..anonymizer import Anonymizer
from ..casting import Agreed, Cast
from ..errors import PhotoError
from ..faces.decoding import Decoded, decode_photo
from ..timing import StageTimer
from ..types import Description
from .discovery import Photo
from .identity import Identity, identify
from .metadata import NOTHING, Metadata, read_metadata
from .options import RunOptions
from .outcomes import Outcomes
from .records import Record
from .steps import Steps
from .survey import Described
from .threads import in_background, in_order

T = TypeVar("T")
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
class Opened:
    """A described photo and, if its faces are replaced in place, its pixels and what stays of its metadata."""

    described: Described
    decoded: Decoded | None = None
    metadata: Metadata = NOTHING


class Intake:
    """The first stages of a run.

    Args:
        anonymizer: reads photos.
        outcomes: the writer of outcomes.
        options: the options of the run.
        steps: the steps of the run.
        timer: the time by stage.
        agreed: the people whose faces are kept; None if there are none.

    Attributes:
        more: how many more pictures than photos there are, as far as is known.
    """

    def __init__(
        self,
        anonymizer: Anonymizer,
        outcomes: Outcomes,
        options: RunOptions,
        steps: Steps,
        timer: StageTimer,
        agreed: Agreed | None,
    ) -> None:
        self._anonymizer, self._outcomes, self._options = anonymizer, outcomes, options
        self._steps, self._timer, self._agreed = steps, timer, agreed
        self.more = 0

    def described(self, photos: Iterable[Photo]) -> Generator[Described | Record, None, None]:
        """Yield photos with their descriptions, and the records of those that failed or are done.

        Args:
            photos: the photos.
        """
        ahead = self._options.batch_size
        loaded = in_order(self._load, photos, threads=READERS, ahead=ahead)
        with closing(loaded), closing(in_background(self._describe(loaded), ahead=ahead)) as described:
            yield from described

    def opened(self, items: Iterable[Described | Record]) -> Generator[Opened | Record, None, None]:
        """Yield photos with their pixels, if faces are replaced in place; records pass through.

        Args:
            items: photos and records.
        """
        if self._options.mode != "in-place":
            yield from (item if isinstance(item, Record) else Opened(item) for item in items)
            return
        opened = in_order(self._open, items, threads=READERS, ahead=self._options.batch_size)
        with closing(opened):
            yield from opened

    def _load(self, photo: Photo) -> Loaded | Record:
        """Read and decode a photo, unless its portrait exists already."""
        start, identity = time.perf_counter(), None
        try:
            content = photo.read()
            identity = identify(content, self._options.seed)
            unguarded = self._anonymizer.inspector is None and self._options.mode != "faces"
            if unguarded and (known := self._outcomes.recall(photo, identity)) is not None:
                return known
            decoded = decode_photo(content, more_formats=self._anonymizer.reader.options.more_formats)
            decoded.log_conversion(str(photo.path))
            return Loaded(photo, identity, decoded, time.perf_counter() - start)
        except Exception as error:  # noqa: BLE001 - an error in one photo must not end the run
            return self._outcomes.fail(photo, identity, error)

    def _open(self, item: Described | Record) -> Opened | Record:
        """Read and decode a photo again, after all people of the run are known."""
        if isinstance(item, Record):
            return item
        try:
            content = item.photo.read()
            if identify(content, self._options.seed) != item.identity:
                raise PhotoError("it has changed since its faces were found", "run the same command again")
            more_formats, keep = self._anonymizer.reader.options.more_formats, self._options.keep_metadata
            decoded = decode_photo(content, more_formats=more_formats)
            return Opened(item, decoded, read_metadata(content, keep, more_formats=more_formats))
        except Exception as error:  # noqa: BLE001 - see above
            return self._outcomes.fail(item.photo, item.identity, error)

    def _describe(self, loaded: Iterable[Loaded | Record]) -> Generator[Described | Record, None, None]:
        """Describe photos in batches; records of photos that failed or are done pass through."""
        for items in _batches(loaded, self._options.batch_size):
            yield from (item for item in items if isinstance(item, Record))
            photos = [item for item in items if isinstance(item, Loaded)]
            with self._timer("describe"):
                if self._options.mode == "portrait":
                    results = self._steps.each("describe", photos, self._cast_portraits)
                else:
                    results = self._steps.each("describe", photos, self._cast_all, steady=True)
            for item, result in zip(photos, results, strict=True):
                if isinstance(result, Cast):
                    yield from self._released(_timed(item, result))
                else:
                    yield self._outcomes.fail(item.photo, item.identity, result)

    def _cast_portraits(self, items: Sequence[Loaded]) -> Sequence[Cast | PhotoError]:
        results = self._anonymizer.reader.describe_decoded([item.decoded for item in items])
        return [Cast((result,)) if isinstance(result, Description) else result for result in results]

    def _cast_all(self, items: Sequence[Loaded]) -> Sequence[Cast]:
        each_face, boxes = self._options.mode == "faces", self._options.boxes
        if each_face:
            return [self._anonymizer.cast_portraits(item.decoded) for item in items]
        return [self._anonymizer.cast(item.decoded, self._agreed, boxes) for item in items]

    def _released(self, item: Described) -> Iterator[Described | Record]:
        """Yield what becomes a picture of its own: the photo, or each of its faces."""
        if self._options.mode != "faces":
            yield item
            return
        self.more += len(item.cast.people) - 1
        for number, person in enumerate(item.cast.people, 1):
            face = replace(item.photo, face=number)
            identity = item.identity.of_face(number)
            try:
                known = self._outcomes.recall(face, identity) if self._anonymizer.inspector is None else None
            except PhotoError as error:
                known = self._outcomes.fail(face, identity, error)
            yield known or Described(face, identity, Cast((person,)))


def _timed(item: Loaded, cast: Cast) -> Described:
    """Return a described photo, with the time for reading it shared among its people."""
    share = {"decode": item.seconds / max(1, len(cast.people))}
    people = tuple(replace(one, seconds=share | one.seconds) for one in cast.people)
    return Described(item.photo, item.identity, replace(cast, people=people))


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
