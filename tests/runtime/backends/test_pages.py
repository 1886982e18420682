import mmap
import os
from pathlib import Path

import pytest

from anon_runtime.backends import pages
from anon_runtime.backends.pages import release_pages

SIZE = 2**23


def resident(path: Path) -> int:
    """The bytes of a mapped file that are in this process's memory."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    begin = next(number for number, line in enumerate(lines) if line.endswith(f" {path}"))
    return 1024 * int(next(line for line in lines[begin:] if line.startswith("Rss:")).split()[1])


@pytest.mark.skipif(not pages.MAPS.exists(), reason="not Linux")
def test_pages_leave_memory_and_can_be_read_again(tmp_path: Path) -> None:
    path, content = tmp_path / "a file.bin", os.urandom(SIZE)
    path.write_bytes(content)
    with path.open("rb") as file:
        os.fsync(file.fileno())
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    with mapped:
        assert mapped[:] == content
        assert resident(path) == SIZE
        release_pages(path)
        assert resident(path) < SIZE // 2
        assert mapped[:] == content


def test_nothing_happens_where_it_cannot_be_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release_pages(tmp_path / "a file that is not mapped")
    monkeypatch.setattr(pages, "MAPS", tmp_path / "no such list")
    release_pages(tmp_path / "a file that is not mapped")
