"""Folders that appear whole or not at all, one build at a time."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from anon_runtime.errors import AnonError, OutputError

from .components import digest


@contextmanager
def lock(target: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """One build of a bundle at a time; the second one says that it waits."""
    name = digest(str(target.absolute()))[:16]
    file = FileLock(Path(tempfile.gettempdir()) / f"anon-export-{name}.lock", mode=0o666)
    try:
        file.acquire(timeout=0)
    except Timeout:
        waiting()
        file.acquire()
    try:
        yield
    finally:
        file.release()


@contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A scratch folder beside the target that takes the target's place when the block succeeds."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for left_by_a_killed_build in target.parent.glob(f".{target.name}.*"):
            shutil.rmtree(left_by_a_killed_build, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        why, fix = error.strerror or str(error), "choose a folder that can be written with --output"
        raise OutputError(f"bundle {target}", why, fix) from None
    try:
        folder = scratch / "new"
        folder.mkdir()
        with _disk_errors(target):
            yield folder
        if target.exists():
            target.replace(scratch / "old")
        folder.replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _disk_errors(target: Path) -> Iterator[None]:
    """A disk that fills up or fails while engines are written; the libraries wrap its errors in their own."""
    try:
        yield
    except AnonError:
        raise
    except Exception as error:
        causes = [error, error.__cause__, error.__context__]
        found = next(
            (e for e in causes if isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO)), None
        )
        if found is None:
            raise
        raise OutputError(f"bundle {target}", found.strerror or str(found), "free some space and run again") from None


def link(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the file system has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
