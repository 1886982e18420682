"""Free space on a disk, checked before it is needed."""

import shutil
from pathlib import Path

from anon_runtime.errors import OutputError


def free_space(folder: Path) -> int:
    """Bytes that can still be written below a folder, which need not exist yet."""
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    return shutil.disk_usage(existing).free


def check_space(folder: Path, needed: int, purpose: str) -> None:
    """Fail before any long work if something will not fit.

    Raises:
        OutputError: names the needed and the free space.
    """
    if needed > (free := free_space(folder)):
        why = f"{purpose} needs {gigabytes(needed)}, and {gigabytes(free)} are free"
        raise OutputError(f"disk of {folder}", why, "free some space, or use another disk")


def gigabytes(size: int) -> str:
    """A number of bytes as people read it."""
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
