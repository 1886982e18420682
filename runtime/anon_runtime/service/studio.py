"""The studio: it describes photos and paints portraits for requests that come one by one, together where they fit.

Photos are read on one thread and portraits are painted on another. A portrait is the one that ``anon-run`` gives for
the same photo, seed and settings, whatever else is painted at the same time.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from ..anonymizer import Anonymizer
from ..diffusion.generator import TokenizedRequest
from ..diffusion.samplers import State
from ..errors import AnonError, PhotoError
from ..faces.decoding import Decoded, decode_photo
from ..folder.identity import identify
from ..folder.writer import ImageFormat, Output
from ..guard.inspector import Case
from ..guard.options import GuardOptions
from ..guard.reference import make_reference
from ..guard.trial import Attempt, Trial
from ..guard.words import coarsen
from ..types import Attributes, Description, Pixels, Portrait, Request
from .line import Line
from .options import ServiceOptions

T = TypeVar("T")


class BusyError(AnonError):
    """The studio has as many requests as it may have.

    Args:
        seconds: after which another try is worth it.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__("the request", "the queue is full", f"try again in {seconds} s")
        self.seconds = seconds


class ClosingError(AnonError):
    """The studio takes no more requests."""

    def __init__(self) -> None:
        super().__init__("the request", "the service is ending", "try again later")


@dataclass(frozen=True)
class Order:
    """What somebody asks for.

    Attributes:
        anonymizer: the engines, with the settings of this order.
        photo: the content of a photo's file; None to use a prompt or the settings' attributes.
        request: prompts; None to use the photo or the settings' attributes.
        seed: as for ``anon-run``: the seed of a photo's portrait is made from it and the photo's content, and without a
            photo it is used directly.
        format, quality: those of the portrait's file, since the guard sees what readers of that file see.
        describe_only: whether to paint nothing.
        preview_every: the number of evaluations between two previews; 0 for none.
    """

    anonymizer: Anonymizer
    photo: bytes | None = None
    request: Request | None = None
    seed: int = 0
    format: ImageFormat = "png"
    quality: int = 95
    describe_only: bool = False
    preview_every: int = 0


@dataclass(frozen=True)
class Step:
    """How far an order is.

    Attributes:
        done: the number of evaluations that are done.
        total: the number of all.
        attempt: the number of the attempt, from 0.
        preview: uint8 (height, width, 3), RGB; None if there is none at this step.
    """

    done: int
    total: int
    attempt: int
    preview: Pixels | None = None


@dataclass(frozen=True)
class Result:
    """What an order has given.

    Attributes:
        seed: the seed of the portrait.
        description: of the photo or the attributes; None for a prompt.
        portrait: None if nothing was to be painted.
    """

    seed: int
    description: Description | None
    portrait: Portrait | None = None


@dataclass(frozen=True, eq=False)
class Ticket:
    """An order that is worked on.

    Attributes:
        order: what was asked for.
        listen: is called with each step, on a thread of the studio.
        future: gets the result or the error. Cancelling it ends the work on the order after the current evaluation.
    """

    order: Order
    listen: Callable[[Step], object] = lambda step: None
    future: "Future[Result]" = field(default_factory=Future)


@dataclass(frozen=True, eq=False)
class Sheet:
    """A portrait that is to be painted.

    Attributes:
        ticket: of the order that it is for.
        description: see `Result`.
        tokenized: its prompts.
        words: the attributes that its prompts say; empty for an order with prompts.
        attempt: the attempt that it is.
        trial: the attempts of its order.
        seed: of the order's first attempt.
    """

    ticket: Ticket
    description: Description | None
    tokenized: TokenizedRequest
    words: Attributes
    attempt: Attempt
    trial: Trial
    seed: int


class _AbandonedError(Exception):
    """Nobody waits for the portraits that are being painted."""


class Studio:
    """A studio with the engines of one bundle.

    Args:
        options: the limits.
    """

    def __init__(self, options: ServiceOptions) -> None:
        self._options = options
        self._active: set[Ticket] = set()
        self._lock, self._closing = threading.RLock(), False
        self._seconds = 1.0  # that the last portraits took, for those who are sent away
        size, wait = options.batch_size, options.wait
        self._painting: Line[Sheet] = Line(
            self._guarded(self._paint, lambda sheet: sheet.ticket),
            lambda s: (s.ticket.order.anonymizer.generator.options, s.tokenized.windows),
            size,
            wait,
            "painting",
        )
        self._reading: Line[Ticket] = Line(
            self._guarded(self._read, lambda ticket: ticket),
            lambda ticket: ticket.order.anonymizer,
            size,
            wait,
            "reading",
            lambda: self._painting.full,  # a photo that is read alone takes twice the work
        )

    @property
    def active(self) -> int:
        """The number of orders that are worked on or wait."""
        return len(self._active)

    def busy(self) -> BusyError:
        """Return the error for a request for which there is no room, with the time until the current ones are done."""
        batches = len(self._active) / self._options.batch_size
        return BusyError(max(1, round(batches * self._seconds)))

    def submit(self, order: Order, listen: Callable[[Step], object] = lambda step: None) -> "Future[Result]":
        """Take an order.

        Args:
            order: what is asked for.
            listen: is called with each step, on a thread of the studio.

        Returns:
            The future result. It raises a `PhotoError` if the photo cannot be used or no portrait passed the guard, and
            other errors of `Anonymizer.anonymize`.

        Raises:
            ClosingError: the studio takes no more orders.
            UsageError: there is neither a photo nor a prompt nor attributes.
        """
        ticket, reader = Ticket(order, listen), order.anonymizer.reader
        described = None if order.photo is not None or order.request is not None else reader.describe_attributes()
        with self._lock:
            if self._closing:
                raise ClosingError
            self._active.add(ticket)
            ticket.future.add_done_callback(lambda _: self._leave(ticket))
            if order.photo is None:
                self._begin(ticket, described, order.seed)
            else:
                self._reading.put(ticket)
        return ticket.future

    def close(self) -> None:
        """Finish all orders that were taken, and take no more."""
        with self._lock:
            self._closing = True
        self._reading.close()
        self._painting.close()

    def _leave(self, ticket: Ticket) -> None:
        with self._lock:
            self._active.discard(ticket)

    def _guarded(self, work: Callable[[list[T]], object], ticket: Callable[[T], Ticket]) -> Callable[[list[T]], object]:
        """The same work on those items that somebody waits for. An error fails the item that causes it."""

        def run(items: list[T]) -> None:
            some = [item for item in items if not ticket(item).future.done()]
            try:
                if some:
                    work(some)
            except _AbandonedError:
                pass
            except Exception as error:  # noqa: BLE001 - the thread serves all others
                if len(some) == 1:
                    _fail(ticket(some[0]), error)
                else:  # the work that was done is done again, without the item that fails
                    for item in some:
                        run([item])

        return run

    def _accompanied(self, items: Sequence[T]) -> Sequence[T]:
        """A single item twice, if batches hold more than one: last digits depend on that, see `FolderRun`."""
        return [*items, *items] if len(items) == 1 < self._options.batch_size else items

    def _read(self, tickets: list[Ticket]) -> None:
        reader, decoded = tickets[0].order.anonymizer.reader, list[tuple[Ticket, Decoded]]()
        for ticket in tickets:
            try:
                photo = decode_photo(_photo(ticket), more_formats=reader.options.more_formats)
                decoded.append((ticket, photo))
            except PhotoError as error:
                _fail(ticket, error)
        if not decoded:
            return
        descriptions = reader.describe_decoded(self._accompanied([photo for _, photo in decoded]))
        for (ticket, _), description in zip(decoded, descriptions, strict=False):
            if isinstance(description, Description):
                self._begin(ticket, description, identify(_photo(ticket), ticket.order.seed).seed)
            else:
                _fail(ticket, description)

    def _begin(self, ticket: Ticket, description: Description | None, seed: int) -> None:
        """Let the first attempt of an order wait, if there is something to paint."""
        if ticket.order.describe_only:
            _finish(ticket, Result(seed, description))
            return
        inspector = ticket.order.anonymizer.inspector
        checked = inspector is not None and description is not None and description.embedding is not None
        trial = Trial(inspector.options if checked and inspector is not None else GuardOptions("off"))
        self._enqueue(ticket, description, trial, seed)

    def _enqueue(self, ticket: Ticket, description: Description | None, trial: Trial, seed: int) -> None:
        if (attempt := trial.attempt) is None:
            raise RuntimeError("the trial is over")
        anonymizer, request, words = ticket.order.anonymizer, ticket.order.request, Attributes()
        if request is None:
            if description is None:
                raise RuntimeError("there is nothing to paint")
            words = coarsen(description.attributes, attempt.coarsening)
            request = anonymizer.reader.write(words).request(attempt.seed(seed))
        tokenized = anonymizer.generator.tokenize(request)
        self._painting.put(Sheet(ticket, description, tokenized, words, attempt, trial, seed))

    def _paint(self, sheets: list[Sheet]) -> None:
        start, generator = time.monotonic(), sheets[0].ticket.order.anonymizer.generator
        requests = self._accompanied([sheet.tokenized for sheet in sheets])
        portraits = generator.generate(requests, after=partial(self._report, sheets))
        self._seconds = time.monotonic() - start
        for sheet, portrait in zip(sheets, portraits, strict=False):
            self._guarded(self._judge, lambda pair: pair[0].ticket)([(sheet, portrait)])

    def _report(self, sheets: list[Sheet], state: State) -> None:
        """Tell those who wait how far their portraits are, and stop if nobody does."""
        waiting = [sheet for sheet in sheets if not sheet.ticket.future.cancelled()]
        if not waiting:
            raise _AbandonedError
        generator = sheets[0].ticket.order.anonymizer.generator
        total = generator.schedule.evaluations
        wanted = [s for s in waiting if (n := s.ticket.order.preview_every) and state.evaluation % n == 0]
        shown = state.evaluation < total and bool(wanted)
        previews = dict(zip(sheets, generator.decode(state.denoised), strict=False)) if shown else {}
        for sheet in waiting:
            preview = previews.get(sheet) if sheet in wanted else None
            sheet.ticket.listen(Step(state.evaluation, total, sheet.attempt.number, preview))

    def _judge(self, painted: list[tuple[Sheet, Portrait]]) -> None:
        """Release a portrait, or let another attempt wait."""
        [(sheet, portrait)] = painted
        ticket, description, trial = sheet.ticket, sheet.description, sheet.trial
        order, inspector = ticket.order, ticket.order.anonymizer.inspector
        if description is not None:
            portrait = portrait.of(description)
        if inspector is None or description is None or description.embedding is None:
            _finish(ticket, Result(portrait.seed, description, portrait))
            return
        crowd = inspector.gather(make_reference(description.embedding[None]))
        pixels = Output(Path(), format=order.format, quality=order.quality).shown(portrait.image)
        trial.add(
            inspector.examine([Case(sheet.attempt, portrait, pixels, sheet.words, description.embedding)], crowd)[0]
        )
        if trial.attempt is not None:
            self._enqueue(ticket, description, trial, sheet.seed)
            return
        kept = trial.result().portrait
        _finish(ticket, Result(kept.seed, description, kept))


def _photo(ticket: Ticket) -> bytes:
    if ticket.order.photo is None:
        raise RuntimeError("there is no photo")
    return ticket.order.photo


def _finish(ticket: Ticket, result: Result) -> None:
    with suppress(InvalidStateError):  # it was cancelled
        ticket.future.set_result(result)


def _fail(ticket: Ticket, error: Exception) -> None:
    with suppress(InvalidStateError):
        ticket.future.set_exception(error)
