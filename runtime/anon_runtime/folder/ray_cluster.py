"""The connection to a Ray cluster: a running one, or a private one on this machine for the time of a run."""

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

LOCAL = "local"  # the address with which Ray starts a cluster on this machine
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}  # no usage data is sent to Ray's makers


@dataclass(frozen=True)
class Cluster:
    """The actors that a Ray cluster has room for.

    Attributes:
        load: a function that opens the bundle in each actor.
        actors: the number of actors.
        share: the resources of each actor, in words.
        resources: the resources of each actor, as arguments for Ray.
    """

    load: Callable[[], Anonymizer]
    actors: int
    share: str
    resources: dict[str, float]


@contextmanager
def connect(
    address: str, load: Callable[[], Anonymizer], *, device: str, threads: int | None = None
) -> Iterator[Cluster]:
    """Connect to a Ray cluster, and disconnect at the end of the context.

    With the address `LOCAL`, a private cluster is started on this machine; at the end, it is stopped and its files are
    removed.

    Args:
        address: the address of the cluster, or `LOCAL`.
        load: a function that opens the bundle in each actor.
        device: the device that the engines run on.
        threads: the number of threads of an engine; None means one for each core of the smallest machine.

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
    # Ray would print messages about actors that died on standard output, between the lines of --json.
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
    """Return the options for a private Ray cluster; other users cannot read its files, which are removed at the end."""
    # Without this variable, Ray would keep a token in the home directory. A process uses its first token until it ends.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    with tempfile.TemporaryDirectory(prefix="anon-ray-", ignore_cleanup_errors=True) as folder:
        # Ray makes the folder that it is given readable for everyone, so it gets one inside our private folder.
        yield {"include_dashboard": False, "_temp_dir": f"{folder}/ray"}


def _knock(address: str) -> None:
    """Check within seconds that a server listens at ``host:port``; Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=5).close()


@contextmanager
def _silent() -> Iterator[None]:
    """Discard standard error, on which Ray's library writes notes; exceptions are still raised."""
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
    """Return the actors that the machines of a cluster have room for.

    On GPUs, there is one actor for each GPU. On CPUs, there is one actor for each group of ``threads`` cores; without
    ``threads``, a group has as many cores as the smallest machine.

    Args:
        load: a function that opens the bundle in each actor.
        nodes: the resources of each machine, by Ray's names.
        device: the device that the engines run on.
        threads: the number of threads of an engine; None means one for each core of the smallest machine.

    Raises:
        UsageError: no machine has room for an actor.
    """
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
