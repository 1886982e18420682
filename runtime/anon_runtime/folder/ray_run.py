"""A folder on many machines: a Ray Data job, whose actors hold the engines and do what one machine does.

Actors get names of photos. They read, describe, generate and write them with a `FolderRun` of their own, and send back
records; neither photos nor portraits travel. The process that was started holds the journal, and adds to it as records
arrive: what an actor wrote and did not tell is generated again, to the same bytes. Ray starts an actor that died again,
and gives it what it had.
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
from ..errors import AnonError, BackendError, OutputError
from ..timing import StageTimer
from .discovery import Photo
from .journal import Journal, Notes
from .options import RunOptions
from .pipeline import FolderRun, Stop
from .ray_cluster import Cluster
from .records import Record
from .threads import PATIENCE
from .writer import Output

log = logging.getLogger(__name__)
STOP = "stop"  # a file beside those that are being written: actors are to end
BATCHES = 4  # that an actor gets at once; reading the first and writing the last of them overlap with no generating
DEATHS = 3  # of actors over the same photos; Ray itself would go on for ever


@dataclass
class Result:
    """What an actor has to tell about some photos.

    Attributes:
        entries: for the journal.
        seconds: time by stage.
        messages: levels and texts for the log, which may hold names, and stay out of Ray's own logs.
        error: the run cannot go on.
        ended: the actor was asked to stop.
        actor: which one it is.
        call: how many results it has made, with this one.
    """

    actor: str
    call: int
    records: list[Record] = field(default_factory=list)
    entries: list[Any] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    messages: list[tuple[int, str]] = field(default_factory=list)
    error: AnonError | None = None
    ended: bool = False


class _Messages(logging.Handler):
    """Keeps what is logged, until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append((record.levelno, record.getMessage()))


class Actor:
    """An actor: engines that are loaded once, and a folder run over what it is sent.

    Args:
        load: opens the bundle.
        output: where portraits go; the same folder for all actors.
        options: of the run.
        known: see `Notes`; a reference.
        folder: which paths are relative to.
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
        with suppress(OSError):  # another machine need not have it if all paths are absolute
            os.chdir(folder)
        self._load, self._output, self._options = load, output, options
        self._notes = Notes(output.root, dict(ray.get(known)), overwrite=options.overwrite)
        self._stop = Flag(self._notes.scratch / STOP)
        self._name, self._calls = uuid4().hex, 0
        self._run: FolderRun | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        """One row of photos to one row of a `Result`, pickled."""
        self._calls += 1
        result = Result(self._name, self._calls)
        if not self._stop.is_set():
            try:
                with _attempt(self._notes, batch["number"][0]):
                    self._generate(pickle.loads(batch["photos"][0]), result)
            except AnonError as error:
                result.error = error
        result.entries, self._notes.entries = self._notes.entries, []
        result.messages, self._messages.kept = self._messages.kept, []
        result.ended = self._stop.is_set()
        return {"result": [pickle.dumps(result)]}

    def _generate(self, photos: Sequence[Photo], result: Result) -> None:
        if self._run is None:
            self._run = FolderRun(self._load(), self._output, self._options, self._notes, stop=self._stop)
        self._run.timer.seconds = result.seconds
        for record in self._run.records(photos):
            result.records.append(record)


@contextmanager
def _attempt(notes: Notes, number: int) -> Iterator[None]:
    """Count how often a part of the photos was begun, in a file that is gone once it is done.

    Raises:
        BackendError: each attempt before this one ended its process, and so would the next.
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
    """An event that machines with a folder in common can see."""

    path: Path

    def is_set(self) -> bool:
        """Whether the file is there."""
        return self.path.exists()


class RayRun:
    """The same as a `FolderRun`, on a cluster.

    Args:
        cluster: see `connect`.
        output: a folder that all machines of the cluster have under the same path.
        options: of the run.
        journal: of the folder.
        stop: when set, the run ends after the images that are being generated.
    """

    def __init__(self, cluster: Cluster, output: Output, options: RunOptions, journal: Journal, *, stop: Stop) -> None:
        self._cluster, self._output, self._options, self._journal = cluster, output, options, journal
        self._stop = stop
        self.timer = StageTimer()

    def records(self, photos: Sequence[Photo]) -> Iterator[Record]:
        """Anonymize photos; yields what became of each, as it becomes known; see `FolderRun.records`."""
        size = self._options.batch_size * BATCHES
        parts = [photos[i : i + size] for i in range(0, len(photos), size)]
        actors = min(self._cluster.actors, len(parts))
        log.info("actors on the cluster: %d, each with %s", actors, self._cluster.share)
        heard: Counter[str] = Counter()
        ended: Counter[str] = Counter()  # the latest call of each actor that has seen the stop
        with _passed_on(self._stop, self._journal.scratch / STOP):
            for result in self._results(parts, actors):
                for level, message in result.messages:
                    log.log(level, "%s", message)
                for entry in result.entries:
                    self._journal.add(entry)
                for stage, seconds in result.seconds.items():
                    self.timer.seconds[stage] = self.timer.seconds.get(stage, 0.0) + seconds
                yield from result.records
                if result.error is not None:
                    raise result.error
                heard[result.actor] += 1
                if result.ended:
                    ended[result.actor] = max(ended[result.actor], result.call)
                # Results come in any order: what was being generated may be behind what was not begun any more.
                if len(ended) == actors and heard >= ended:
                    return

    def _results(self, parts: Sequence[Sequence[Photo]], actors: int) -> Iterator[Result]:
        import ray

        known = ray.put(self._journal.known)
        arguments = (self._cluster.load, self._output, self._options, known, Path.cwd())
        rows = [{"number": i, "photos": pickle.dumps(part)} for i, part in enumerate(parts)]
        job = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            Actor,
            batch_size=1,
            fn_constructor_args=arguments,
            compute=ray.data.ActorPoolStrategy(size=actors),
            **self._cluster.resources,
        )
        try:
            for batch in job.iter_batches(batch_size=None, prefetch_batches=0):
                yield from map(pickle.loads, batch["result"])
        except ray.exceptions.RayError as error:
            why = f"the cluster gave up ({str(error).splitlines()[0]})"
            raise BackendError("`ray`", why, "look at Ray's logs; the same command goes on where it ended") from None


@contextmanager
def _passed_on(stop: Stop, flag: Path) -> Iterator[None]:
    """Let actors know when this process is asked to stop."""
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
