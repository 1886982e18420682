"""The studio: it describes photos and paints faces for requests that come one by one, together where they fit.

Photos are read on two threads, one of them for photos whose faces are replaced in place. Faces are painted on a third
one. A picture is the one that ``anon-run`` gives for the same photo, seed and settings, whatever else is painted at the
same time.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
from typing import TypeVar

from ..casting import Cast
from ..diffusion.samplers import State
from ..errors import AnonError, PhotoError
from ..faces.decoding import Decoded, decode_photo
from ..folder.identity import identify
from ..jobs import SceneJob, Sitter
from ..types import Description, Portrait
from .line import Line
from .options import ServiceOptions
from .orders import Order, Result, Step, Ticket
from .work import Sheet, Work, with_photo, without_photo

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
        self._seconds = 1.0  # that the last pictures took, for those who are sent away
        # Photos whose faces are replaced are large, and kept until they are done: those of two batches at a time.
        self._room = threading.Semaphore(2 * options.batch_size)
        size, wait = options.batch_size, options.wait
        self._painting: Line[Sheet] = Line(
            self._guarded(self._paint, lambda sheet: sheet.ticket),
            lambda sheet: (sheet.ticket.order.anonymizer.generator.options, sheet.tokenized.kind),
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
        # All faces of a photo are searched for alone, and the result does not depend on a batch.
        opening = self._guarded(self._open, lambda ticket: ticket)
        self._opening: Line[Ticket] = Line(opening, lambda ticket: None, 1, 0, "opening")

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
            The future result. It raises a `PhotoError` if the photo cannot be used or nothing passed the guard, and
            other errors of `Anonymizer.anonymize` and `Anonymizer.replace_faces`.

        Raises:
            ClosingError: the studio takes no more orders.
            UsageError: there is neither a photo nor a prompt nor attributes.
            BundleError: the bundle cannot replace faces in place.
        """
        ticket, reader = Ticket(order, listen), order.anonymizer.reader
        if order.in_place:
            order.anonymizer.check(in_place=True)
        described = None if order.photo is not None or order.request is not None else reader.describe_attributes()
        with self._lock:
            if self._closing:
                raise ClosingError
            self._active.add(ticket)
            ticket.future.add_done_callback(lambda _: self._leave(ticket))
            if order.photo is not None:
                (self._opening if order.in_place else self._reading).put(ticket)
            elif order.describe_only and described is not None:
                _finish(ticket, Result(order.seed, described))
            else:
                self._begin(without_photo(ticket, described))
        return ticket.future

    def close(self) -> None:
        """Finish all orders that were taken, and take no more."""
        with self._lock:
            self._closing = True
        for line in (self._opening, self._reading, self._painting):  # in this order: the last one gets from the others
            line.close()

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
        """Describe the biggest faces of photos, and begin with their portraits."""
        reader, decoded = tickets[0].order.anonymizer.reader, list[tuple[Ticket, Decoded]]()
        for ticket in tickets:
            try:
                decoded.append((ticket, _decode(ticket)))
            except PhotoError as error:
                _fail(ticket, error)
        if not decoded:
            return
        descriptions = reader.describe_decoded(self._accompanied([photo for _, photo in decoded]))
        for (ticket, photo), description in zip(decoded, descriptions, strict=False):
            if not isinstance(description, Description):
                _fail(ticket, description)
            elif ticket.order.describe_only:
                _finish(ticket, Result(identify(ticket.order.content, ticket.order.seed).seed, description))
            else:
                self._begin(with_photo(ticket, Cast((description,)), photo))

    def _open(self, tickets: list[Ticket]) -> None:
        """Find all faces of a photo, and begin to replace them as soon as there is room for the photo."""
        [ticket] = tickets
        self._room.acquire()
        ticket.future.add_done_callback(lambda _: self._room.release())
        if ticket.future.done():
            return
        photo, order = _decode(ticket), ticket.order
        self._begin(with_photo(ticket, order.anonymizer.cast(photo, boxes=order.boxes), photo))

    def _begin(self, work: Work) -> None:
        """Let the first attempts for all people of a job wait."""
        self._guarded(self._begin_all, lambda one: one.ticket)([work])

    def _begin_all(self, works: list[Work]) -> None:
        for work in works:
            self._enqueue(work, work.job.sitters)
            if not work.job.sitters:
                self._settle(work)

    def _enqueue(self, work: Work, sitters: Sequence[Sitter]) -> None:
        self._painting.put(*[work.sheet(sitter) for sitter in sitters])  # at once, so that they are painted together

    def _paint(self, sheets: list[Sheet]) -> None:
        start, generator = time.monotonic(), sheets[0].ticket.order.anonymizer.generator
        requests = self._accompanied([sheet.tokenized for sheet in sheets])
        portraits = generator.generate(requests, after=partial(self._report, sheets))
        self._seconds = time.monotonic() - start
        for sheet, portrait in zip(sheets, portraits, strict=False):
            self._guarded(self._judge, lambda pair: pair[0].ticket)([(sheet, portrait)])

    def _report(self, sheets: list[Sheet], state: State) -> None:
        """Tell those who wait how far their pictures are, and stop if nobody does."""
        waiting = [sheet for sheet in sheets if not sheet.ticket.future.done()]
        if not waiting:
            raise _AbandonedError
        generator = sheets[0].ticket.order.anonymizer.generator
        total = generator.schedule.evaluations
        wanted = [sheet for sheet in waiting if _wants_preview(sheet, state.evaluation)]
        shown = state.evaluation < total and bool(wanted)
        previews = dict(zip(sheets, generator.decode(state.denoised), strict=False)) if shown else {}
        for sheet in waiting:
            sheet.work.done[sheet.sitter] = state.evaluation
        for sheet in {sheet.work: sheet for sheet in waiting}.values():  # one step for all faces of a photo
            preview = previews.get(sheet) if sheet in wanted else None
            sheet.ticket.listen(sheet.work.step(total, preview))

    def _judge(self, painted: list[tuple[Sheet, Portrait]]) -> None:
        """Let the guard look at a face; another attempt waits if it has to, or the order is settled."""
        [(sheet, portrait)] = painted
        work, job, sitter = sheet.work, sheet.work.job, sheet.sitter
        order, inspector = sheet.ticket.order, sheet.ticket.order.anonymizer.inspector
        if inspector is None or work.crowd is None:
            job.accept(sitter, portrait)
        else:
            case = job.case(sitter, portrait, sheet.words, order.shown)
            sitter.trial.add(inspector.examine([case], work.crowd)[0])
        waiting = job.waiting
        if sitter in waiting:
            self._enqueue(work, [sitter])
        elif not waiting:
            self._settle(work)

    def _settle(self, work: Work) -> None:
        """Release the picture of a job in which nobody waits, unless somebody has to be painted once more."""
        ticket, job = work.ticket, work.job
        kept = job.results()
        if not isinstance(job, SceneJob):
            _finish(ticket, Result(kept[0].portrait.seed, kept[0].portrait))
            return
        photo, inspector = job.finish(), ticket.order.anonymizer.inspector
        if inspector is not None and work.crowd is not None:
            job.examine(inspector.see(ticket.order.shown(photo.image)), work.crowd.limits.own.value)
            if waiting := job.waiting:
                self._enqueue(work, waiting)
                return
            job.results()  # an objection to the last attempt of somebody is a refusal
        _finish(ticket, Result(work.seed, photo))


def _decode(ticket: Ticket) -> Decoded:
    formats = ticket.order.anonymizer.reader.options.more_formats
    return decode_photo(ticket.order.content, more_formats=formats)


def _wants_preview(sheet: Sheet, evaluation: int) -> bool:
    """Whether a preview is due; of a face that is replaced there is none, since it would show the photo around it."""
    every = sheet.ticket.order.preview_every
    return every > 0 and evaluation % every == 0 and sheet.tokenized.request.canvas is None


def _finish(ticket: Ticket, result: Result) -> None:
    with suppress(InvalidStateError):  # it was cancelled
        ticket.future.set_result(result)


def _fail(ticket: Ticket, error: Exception) -> None:
    with suppress(InvalidStateError):
        ticket.future.set_exception(error)
