"""What Ray has to give: a cluster that runs already, or one of this machine's cores for as long as a run takes."""

import logging
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from typing import Any

from ..anonymizer import Anonymizer
from ..errors import UsageError, first_line

LOCAL = "local"  # Ray's word for a cluster of this machine, which it starts
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}  # nothing is sent to Ray's makers


@dataclass(frozen=True)
class Cluster:
    """Actors that Ray can give.

    Attributes:
        load: opens the bundle in each actor.
        actors: how many there is room for.
        share: what each of them has, in words.
        resources: the same for Ray.
    """

    load: Callable[[], Anonymizer]
    actors: int
    share: str
    resources: dict[str, float]


@contextmanager
def connect(
    address: str, load: Callable[[], Anonymizer], *, device: str, threads: int | None = None
) -> Iterator[Cluster]:
    """A cluster that runs already, or with `LOCAL` one of this machine, which is gone afterwards with all its files.

    Args:
        address: of the cluster.
        load: opens the bundle in each actor.
        device: that the engines run on.
        threads: of an engine; None is one for each core.

    Raises:
        UsageError: Ray is not installed, there is no such cluster, or it has no room for an actor.
    """
    os.environ |= QUIET
    try:
        import ray
        import ray.data
    except ImportError:
        raise UsageError("`ray`", "Ray is not installed", "pip install 'anon-engines[ray]'") from None
    own: AbstractContextManager[dict[str, Any]] = _private() if address == LOCAL else nullcontext({})
    # What Ray tells of actors that died goes to standard output otherwise, among the lines of --json.
    with own as options, redirect_stdout(sys.stderr):
        try:
            _knock(address)
            with _silent():
                ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **options)
        except Exception as error:  # noqa: BLE001 - Ray's exceptions share no base class
            why = first_line(error)
            fix = "try again when it is less busy" if options else "name the address that `ray start --head` tells"
            what = "Ray does not start on this machine" if options else "there is no cluster of Ray"
            raise UsageError(f"`ray` {address}", f"{what} ({why})", fix) from None
        try:
            ray.data.DataContext.get_current().enable_progress_bars = False
            for name in ("ray", "ray.data"):
                logging.getLogger(name).setLevel(logging.ERROR)
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            yield find_room(load, nodes, device=device, threads=threads)
        finally:
            ray.shutdown()


@contextmanager
def _private() -> Iterator[dict[str, Any]]:
    """Options for a Ray of our own, whose files nobody else can read, and which are gone afterwards."""
    # Ray would keep one in the home directory. It remembers the first of a process.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    with tempfile.TemporaryDirectory(prefix="anon-ray-", ignore_cleanup_errors=True) as folder:
        # Ray lets everyone into the folder that it is given.
        yield {"include_dashboard": False, "_temp_dir": f"{folder}/ray"}


def _knock(address: str) -> None:
    """Find out in seconds whether anyone listens at ``host:port``; Ray tries for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=5).close()


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing on standard error: Ray's library writes there that it was told to be quiet, and no exception is lost."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def find_room(
    load: Callable[[], Anonymizer], nodes: Sequence[Mapping[str, float]], *, device: str, threads: int | None
) -> Cluster:
    """One actor a GPU, or one for as many cores as an engine has threads, or else one a machine."""
    if device != "cpu":
        share, resources = "a GPU", {"num_gpus": 1.0}
        actors = sum(int(node.get("GPU", 0)) for node in nodes)
    else:
        smallest = min((int(node["CPU"]) for node in nodes if node.get("CPU")), default=1)
        cores = threads or smallest
        share, resources = "one core" if cores == 1 else f"{cores} cores", {"num_cpus": float(cores)}
        actors = sum(int(node.get("CPU", 0)) // cores for node in nodes)
    if not actors:
        why = f"no machine of the cluster has {share} for an actor"
        raise UsageError("`ray`", why, "add one, or choose another `device` or number of `threads`")
    return Cluster(load, actors, share, resources)
