"""A folder run on many machines: a Ray Data job whose actors hold the engines and do the same work as one machine.

Actors receive the names of photos. Each actor has its own `FolderRun`, which reads, describes, generates and writes
photos, and it sends back records; neither photos nor portraits are sent between the processes. The process that the
user started holds the journal, and adds entries when records arrive. If an actor wrote a portrait and failed before it
sent the record, the portrait is generated again, with the same bytes. Ray restarts an actor that failed, and gives it
the same photos again.
"""

import logging
import os
import pickle
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..anonymizer import Anonymizer
from ..casting import Agreed
from ..errors import AnonError, BackendError, OutputError
from ..guard.inspector import Crowd, Inspector
from ..timing import StageTimer
from ..types import Floats
from .discovery import Photo
from .exchange import Exchange
from .journal import Journal
from .notes import Notes
from .options import RunOptions
from .pipeline import FolderRun, Stop
from .ray_cluster import Cluster
from .records import Record
from .survey import Survey
from .threads import PATIENCE
from .watch import gather
from .writer import Output

log = logging.getLogger(__name__)
STOP = "stop"  # a file in the private folder, whose existence asks the actors to stop
BATCHES = 4  # batches that an actor gets in one call; with several, generating overlaps with reading and writing
DEATHS = 3  # how often actors may die over the same photos; Ray itself would restart them without end


@dataclass
class Result:
    """The result of one call of an actor.

    Attributes:
        actor: the name of the actor.
        call: the number of calls of this actor so far, including this one.
        records: the records of the photos.
        entries: the entries for the journal.
        seconds: the time by stage.
        surveyed: the number of photos whose people are known.
        more: how many more pictures than photos there are.
        messages: levels and texts for the log. They may hold names of photos, so they must not get into Ray's own logs.
        error: the reason why the run cannot continue; None if it can.
        ended: whether the actor was asked to stop.
    """

    actor: str
    call: int
    records: list[Record] = field(default_factory=list)
    entries: list[Any] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    surveyed: int = 0
    more: int = 0
    messages: list[tuple[int, str]] = field(default_factory=list)
    error: AnonError | None = None
    ended: bool = False


class _Messages(logging.Handler):
    """A handler that keeps log messages until they are taken."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append((record.levelno, record.getMessage()))


class Actor:
    """An actor: engines that are loaded once, and a folder run over the photos that it receives.

    Args:
        load: a function that opens the bundle.
        output: the place and the format of the portraits; the same folder for all actors.
        options: the options of the run.
        known: a Ray reference to what is known of the output folder, see `Notes`.
        folder: the folder that relative paths refer to.
    """

    def __init__(
        self, load: Callable[[], Anonymizer], output: Output, options: RunOptions, known: Any, folder: Path
    ) -> None:
        import ray

        warnings.filterwarnings("ignore", module="PIL")
        self._messages = _Messages()
        logger = logging.getLogger("anon_runtime")
        logger.propagate = False
        logger.setLevel(logging.INFO)
        logger.addHandler(self._messages)
        with suppress(OSError):  # another machine does not need this folder if all paths are absolute
            os.chdir(folder)
        self._load, self._output, self._options = load, output, options
        self._notes = Notes(output.root, *map(dict, ray.get(known)), overwrite=options.overwrite)
        self._stop, self._exchange = Flag(self._notes.scratch / STOP), Exchange(self._notes.scratch)
        self._name, self._calls = uuid4().hex, 0
        self._run: FolderRun | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        """Process one row of photos, and return one row with a pickled `Result`.

        Args:
            batch: a batch of one row: ``number``, the number of the row, and ``photos``, the pickled photos; with a
                guard, the photos come once to be surveyed, and then None to release the portraits of the row.
        """
        self._calls += 1
        result = Result(self._name, self._calls)
        if not self._stop.is_set():
            try:
                with _attempt(self._notes, batch["number"][0]):
                    self._work(int(batch["number"][0]), pickle.loads(batch["photos"][0]), result)
            except AnonError as error:
                result.error = error
        result.entries, self._notes.entries = self._notes.entries, []
        result.messages, self._messages.kept = self._messages.kept, []
        result.ended = self._stop.is_set()
        return {"result": [pickle.dumps(result)]}

    def _work(self, number: int, photos: Sequence[Photo] | None, result: Result) -> None:
        if self._run is None:
            agreed = self._exchange.agreed()
            self._run = FolderRun(
                self._load(), self._output, self._options, self._notes, stop=self._stop, agreed=agreed
            )
        self._run.timer.seconds, before = result.seconds, self._run.more
        if (inspector := self._run.anonymizer.inspector) is None:
            records = self._run.records(photos or ())
        elif photos is not None:
            records = self._survey(self._run, number, photos, result)
        else:
            records = self._release(self._run, number, inspector)
        for record in records:
            result.records.append(record)
        result.more = self._run.more - before

    def _survey(self, run: FolderRun, number: int, photos: Sequence[Photo], result: Result) -> Iterator[Record]:
        survey = Survey(run.anonymizer.reader.options.attributes)
        yield from run.survey(photos, survey)
        if not self._stop.is_set():
            self._exchange.put_survey(number, survey)
            result.surveyed = len(photos)

    def _release(self, run: FolderRun, number: int, inspector: Inspector) -> Iterator[Record]:
        watch = run.watch or run.post(inspector, self._exchange.crowd(inspector))
        yield from run.release(self._exchange.survey(number))
        self._exchange.put_released(number, watch.released)
        watch.released.clear()


@contextmanager
def _attempt(notes: Notes, number: int) -> Iterator[None]:
    """Count the attempts on one row of photos, in a file that is removed when the row is done.

    Raises:
        BackendError: each of the previous attempts ended its process, so that the next one would probably do the same.
        OutputError: the output folder cannot be written.
    """
    counter = notes.scratch / f"attempts-{number}"
    with ExitStack() as stack:
        try:
            stack.enter_context(notes.writing())
            with counter.open("ab") as file:
                file.write(b".")
        except OSError as error:
            why, fix = error.strerror or str(error), "give all machines the same folder; what is done is kept"
            raise OutputError(f"output folder {notes.out}", why, fix) from None
        stack.callback(counter.unlink, missing_ok=True)
        if counter.stat().st_size > DEATHS:
            why = f"{DEATHS} actors in a row were killed or crashed over the same photos"
            raise BackendError("`ray`", why, "look at their memory; the same command goes on where it ended")
        yield


@dataclass(frozen=True)
class Flag:
    """A request to stop that all machines with a common folder can see.

    Attributes:
        path: the file whose existence is the request.
    """

    path: Path

    def is_set(self) -> bool:
        """Return whether the file exists."""
        return self.path.exists()


class RayRun:
    """A run over many photos on a cluster; it has the same methods as a `FolderRun`.

    Args:
        cluster: the cluster, see `connect`.
        output: the place and the format of the portraits; all machines must have the folder under the same path.
        options: the options of the run.
        journal: the journal of the folder.
        stop: when its ``is_set`` returns True, the run ends after the images that are being generated.
        inspector: the inspector; None without a guard.
        gallery: the people who must never appear.
        agreed: the people whose faces are kept; None if there are none.
        surveyed: a function that is called with the number of photos whose people are known.

    Attributes:
        timer: the time by stage.
        more: how many more pictures than photos there are, as far as is known.
        crowd: all people of the run; None if they are not known, or without a guard.
        released: the embeddings of the released portraits, by the pseudonyms of their photos; empty without a guard.
    """

    def __init__(
        self,
        cluster: Cluster,
        output: Output,
        options: RunOptions,
        journal: Journal,
        *,
        stop: Stop,
        inspector: Inspector | None = None,
        gallery: Survey | None = None,
        agreed: Agreed | None = None,
        surveyed: Callable[[int], object] = lambda done: None,
    ) -> None:
        self._cluster, self._output, self._options, self._journal = cluster, output, options, journal
        self._stop, self._inspector, self._gallery, self._surveyed = stop, inspector, gallery, surveyed
        self._agreed, self.more = agreed, 0
        self.crowd: Crowd | None = None
        self.released: dict[str, Floats] = {}
        self.timer = StageTimer()

    def records(self, photos: Sequence[Photo]) -> Iterator[Record]:
        """Anonymize photos, and yield the record of each photo as soon as it is known; see `FolderRun.records`."""
        size = self._options.batch_size * BATCHES
        parts = [photos[i : i + size] for i in range(0, len(photos), size)]
        log.info("actors on the cluster: %d, each with %s", self._actors(parts), self._cluster.share)
        exchange = Exchange(self._journal.scratch)
        if self._agreed is not None:
            exchange.put_agreed(self._agreed)
        yield from self._pass(parts)
        if self._inspector is None or self._stop.is_set():
            return
        surveys = [exchange.survey(number) for number in range(len(parts))]
        self.crowd = gather([*surveys, self._gallery], self._inspector)
        exchange.put_crowd(self.crowd)
        yield from self._pass([None] * len(parts))
        self.released = exchange.released()

    def _actors(self, parts: Sequence[Any]) -> int:
        return min(self._cluster.actors, len(parts))

    def _pass(self, parts: Sequence[Sequence[Photo] | None]) -> Iterator[Record]:
        """Let the actors work on each part once, and yield the records of its photos."""
        actors, surveyed = self._actors(parts), 0
        heard: Counter[str] = Counter()
        ended: Counter[str] = Counter()  # the number of the latest call of each actor that was asked to stop
        with _passed_on(self._stop, self._journal.scratch / STOP):
            for result in self._results(parts, actors):
                for level, message in result.messages:
                    log.log(level, "%s", message)
                for entry in result.entries:
                    self._journal.add(entry)
                for stage, seconds in result.seconds.items():
                    self.timer.seconds[stage] = self.timer.seconds.get(stage, 0.0) + seconds
                self.more += result.more
                if result.surveyed:
                    surveyed += result.surveyed
                    self._surveyed(surveyed)
                yield from result.records
                if result.error is not None:
                    raise result.error
                heard[result.actor] += 1
                if result.ended:
                    ended[result.actor] = max(ended[result.actor], result.call)
                # Results arrive in any order: the result of a call that generated images may arrive after the result of
                # a later call that was stopped at once. The run is over when all calls up to the latest one have
                # arrived.
                if len(ended) == actors and heard >= ended:
                    return

    def _results(self, parts: Sequence[Sequence[Photo] | None], actors: int) -> Iterator[Result]:
        import ray

        known = ray.put((self._journal.known, self._journal.refused, self._journal.begins))
        arguments = (self._cluster.load, self._output, self._options, known, Path.cwd())
        rows = [{"number": i, "photos": pickle.dumps(part)} for i, part in enumerate(parts)]
        resources: dict[str, Any] = {**self._cluster.resources}
        job = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            Actor,
            batch_size=1,
            fn_constructor_args=arguments,
            compute=ray.data.ActorPoolStrategy(size=actors),
            **resources,
        )
        try:
            for batch in job.iter_batches(batch_size=None, prefetch_batches=0):
                yield from map(pickle.loads, batch["result"])
        except ray.exceptions.RayError as error:
            why = f"the cluster gave up ({str(error).splitlines()[0]})"
            raise BackendError("`ray`", why, "look at Ray's logs; the same command goes on where it ended") from None


@contextmanager
def _passed_on(stop: Stop, flag: Path) -> Iterator[None]:
    """Tell the actors, by a file, when this process is asked to stop."""
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            if stop.is_set():
                flag.touch()
                return
            over.wait(PATIENCE)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        flag.unlink(missing_ok=True)
