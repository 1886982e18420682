"""The work on an order: the job that it is, and the faces that are painted for it."""

from dataclasses import dataclass

from ..casting import Cast
from ..diffusion.generator import TokenizedRequest
from ..faces.decoding import Decoded
from ..faces.reader import FaceReader
from ..folder.identity import identify
from ..guard.decision import Finding
from ..guard.inspector import Crowd
from ..guard.options import GuardOptions
from ..guard.trial import FIRST, Judged
from ..guard.words import NOBODY, Frequencies
from ..jobs import Job, Sitter
from ..types import Attributes, Description, Pixels, Portrait, Request
from .orders import Step, Ticket


@dataclass(frozen=True, eq=False)
class Work:
    """The work on an order.

    Attributes:
        ticket: of the order.
        job: the people who are painted.
        seed: of the job.
        crowd: the people of the photo, whom no picture may resemble; None if nobody looks at it.
        done: how many evaluations of the current attempt are done, for each person of the job.
    """

    ticket: Ticket
    job: Job
    seed: int
    crowd: Crowd | None
    done: dict[Sitter, int]

    def sheet(self, sitter: Sitter) -> "Sheet":
        """Return the sheet for the next attempt of a person, who waits."""
        anonymizer, frequencies = self.ticket.order.anonymizer, self.crowd.frequencies if self.crowd else NOBODY
        request, words = self.job.request(sitter, anonymizer.reader, frequencies)
        self.done[sitter] = 0
        return Sheet(self, sitter, anonymizer.generator.tokenize(request), words)

    def step(self, total: int, preview: Pixels | None) -> Step:
        """Return how far the work is.

        Args:
            total: the number of evaluations of a picture.
            preview: see `Step`.
        """
        attempts = [sitter.trial.attempt.number for sitter in self.done if sitter.trial.attempt is not None]
        return Step(sum(self.done.values()), total * len(self.done), max(attempts, default=0), preview)


@dataclass(frozen=True, eq=False)
class Sheet:
    """A face that is to be painted.

    Attributes:
        work: that it belongs to.
        sitter: the person.
        tokenized: the tokenized request.
        words: the attributes that its prompts say; empty for an order with prompts.
    """

    work: Work
    sitter: Sitter
    tokenized: TokenizedRequest
    words: Attributes

    @property
    def ticket(self) -> Ticket:
        """The ticket of the order that it is for."""
        return self.work.ticket


class PromptJob(Job):
    """The job of a portrait from prompts that somebody has written, so that nobody is described.

    Args:
        request: the prompts.
    """

    def __init__(self, request: Request) -> None:
        nobody = Description(request.prompt, request.negative_prompt, {})
        super().__init__([nobody], request.seed, GuardOptions("off"))
        self._request = request

    def request(
        self, sitter: Sitter, reader: FaceReader, frequencies: Frequencies = NOBODY
    ) -> tuple[Request, Attributes]:
        """Return the prompts as they are."""
        return self._request, {}

    def accept(self, sitter: Sitter, painted: Portrait) -> None:
        """Take the portrait, of which no more is known than its prompts."""
        sitter.trial.add(Judged(FIRST, painted, Finding(None)))


def without_photo(ticket: Ticket, described: Description | None) -> Work:
    """Return the work on an order without a photo, which nobody looks at, since there is nobody to compare with.

    Args:
        ticket: of the order.
        described: the description of the attributes; None for prompts.
    """
    order = ticket.order
    if described is not None:
        return _begin(ticket, Job([described], order.seed, GuardOptions("off")), order.seed)
    if order.request is None:
        raise RuntimeError("there is nothing to paint")
    return _begin(ticket, PromptJob(order.request), order.request.seed)


def with_photo(ticket: Ticket, cast: Cast, photo: Decoded) -> Work:
    """Return the work on an order with a photo, which is that of a folder run over this photo alone.

    Args:
        ticket: of the order.
        cast: what becomes of the faces of the photo.
        photo: the photo; its pixels are kept only if its faces are replaced.
    """
    order, anonymizer = ticket.order, ticket.order.anonymizer
    identity = identify(order.content, order.seed)
    if order.in_place:
        job: Job = anonymizer.scene_job(photo, cast, identity.seed)
    else:
        job = Job(cast.people, identity.seed, anonymizer.guard)
    return _begin(ticket, job, identity.seed, anonymizer.gather(cast.people))


def _begin(ticket: Ticket, job: Job, seed: int, crowd: Crowd | None = None) -> Work:
    # Everybody is in `done` from the beginning, since one thread adds it up while another lets people wait.
    return Work(ticket, job, seed, crowd, dict.fromkeys(job.sitters, 0))
