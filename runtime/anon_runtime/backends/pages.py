"""Memory pages of files that a library has mapped and does not read any more."""

import ctypes
import logging
from pathlib import Path

MAPS = Path("/proc/self/maps")
MADV_PAGEOUT = 21  # of Linux 5.4; it takes the pages away without a change of what is read there later
log = logging.getLogger(__name__)


def release_pages(path: Path) -> None:
    """Take the pages of a mapped file out of this process's memory; a later access reads them from the file again.

    This is done where Linux can do it, and nothing happens elsewhere.

    Args:
        path: the file, which some library has mapped into memory.
    """
    try:
        lines = MAPS.read_text().splitlines()
        advise = ctypes.CDLL(None, use_errno=True).madvise
    except (OSError, AttributeError):
        return
    name = str(path.resolve())
    for line in lines:
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] == name:
            begin, end = (int(address, 16) for address in fields[0].split("-"))
            if advise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), MADV_PAGEOUT):
                log.debug("pages of %s stay in memory (errno %d)", name, ctypes.get_errno())
