"""Folders that appear complete or not at all, and a lock that lets one build at a time write one."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISDIR

from anon_runtime.bundle.manifest import MANIFEST
from anon_runtime.errors import AnonError, OutputError, UsageError


def check_place(target: Path) -> None:
    """Refuse to put a bundle in the place of something else.

    Raises:
        UsageError: there is a file, or a folder that holds something and no bundle.
    """
    with _os_errors(target):
        taken = target.exists() and not (
            target.is_dir() and ((target / MANIFEST).exists() or not any(target.iterdir()))
        )
    if taken:
        fix = "choose another `name` or `output`, or move it away"
        raise UsageError(f"bundle {target}", "something that is no bundle is there, and would be lost", fix)


@contextmanager
def lock(target: Path, waiting: Callable[[], object]) -> Iterator[None]:
    """Let one build of a bundle run at a time.

    The lock is a file beside the bundle, so that it holds for all users and machines that see the folder. The build
    that holds it removes it. Another build that has opened the file before notices that the file has no name any more
    and opens the next one; filelock does this.

    Args:
        target: the bundle's folder.
        waiting: called if another build holds the lock.

    Raises:
        OutputError: the folder cannot be written.
    """
    from filelock import FileLock, Timeout  # late: `anon-export verify` works without it

    file = FileLock(_beside(target, "lock"), mode=0o666)
    above, made = target.absolute().parents, list[Path]()

    def acquire(timeout: float) -> None:
        nonlocal made
        while True:
            made = [folder for folder in above if not folder.exists()] or made
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                file.acquire(timeout)
                return
            except (FileNotFoundError, FileExistsError):
                # Another build has removed the folders that it had made, unless something else is in their place.
                if any(_is_in_the_way(folder) for folder in above):
                    raise

    with _os_errors(target):
        try:
            acquire(0)
        except Timeout:
            waiting()
            acquire(-1)
    try:
        yield
    finally:
        with suppress(OSError):
            Path(file.lock_file).unlink()
        file.release()
        with suppress(OSError):  # not empty: the bundle is there, or another build waits there
            for folder in made:
                folder.rmdir()


@contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A scratch folder beside the target that replaces the target when the block succeeds.

    The caller holds the target's `lock`.

    Raises:
        OutputError: the folder cannot be written, or the disk is full.
    """
    scratch = _beside(target, "building")
    try:
        with _os_errors(target):
            shutil.rmtree(scratch, ignore_errors=True)  # left by a build that was killed
            folder = scratch / "new"
            folder.mkdir(parents=True)
        with _disk_errors(target):
            yield folder
        check_place(target)
        if target.exists():
            target.replace(scratch / "old")
        folder.replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _beside(target: Path, purpose: str) -> Path:
    """A hidden name that no bundle can have, because the names of bundles do not begin with a dot."""
    return target.with_name(f".{target.name}.{purpose}")


def _is_in_the_way(folder: Path) -> bool:
    """Whether something that is no folder has a folder's name; asked in one call, as builds make and remove folders."""
    try:
        return not S_ISDIR(folder.stat().st_mode)
    except FileNotFoundError:
        return folder.is_symlink()  # a link that leads nowhere


@contextmanager
def _os_errors(target: Path) -> Iterator[None]:
    """Report that a folder cannot be written, or is none."""
    try:
        yield
    except OSError as error:
        why, fix = error.strerror or str(error), "choose a folder that can be written with `output`"
        raise OutputError(f"bundle {target}", why, fix) from None


@contextmanager
def _disk_errors(target: Path) -> Iterator[None]:
    """Report a disk that is full or fails while engines are written; libraries wrap such errors in their own."""
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
    """Give a file a second name; a copy where the file system has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
