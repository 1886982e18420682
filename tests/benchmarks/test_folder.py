"""A small run of the benchmark of folder runs: these tests check what it measures, not how fast anything is."""

from pathlib import Path

import pytest

from benchmarks import folder


@pytest.mark.ray
def test_everything_is_measured(demo_bundle: Path, tmp_path: Path) -> None:
    report = folder.measure(demo_bundle, 20, steps=1, repeats=1, kills=1, scratch=tmp_path)
    assert report.same
    assert len(folder.digests(tmp_path / "killed")) == 20
    assert list(report.peaks) == [2, 20]
    assert min(report.peaks.values()) > 50e6
    assert min(report.speedups + report.ray_speedups) > 0
    assert 0 < min(report.generating) <= 1
    assert report.rate > 0
    lines = folder.table(report)
    assert len(lines) == 9
    assert all(line.count("|") == 4 for line in lines)


def test_other_bytes_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"one")
    before = folder.digests(tmp_path)
    (tmp_path / "a.png").write_bytes(b"two")
    assert folder.digests(tmp_path) != before
