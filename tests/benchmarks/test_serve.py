"""A small run of the benchmark of the service: these tests check what it measures, not how fast anything is."""

import json
import math
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import pytest

from anon_runtime import Anonymizer
from anon_runtime.bundle.manifest import MANIFEST
from anon_runtime.errors import UsageError
from anon_runtime.folder.discovery import Photo, find_photos
from benchmarks import serve
from benchmarks.folder import make_photos
from benchmarks.serve_process import ServiceError, serving, write_form
from tests.conftest import edit_manifest

# `pytest.importorskip` would import locust, and so replace the sockets and threads of all tests by gevent's.
pytestmark = [
    pytest.mark.packages,
    pytest.mark.skipif(find_spec("locust") is None or find_spec("fastapi") is None, reason="needs `bench` and `serve`"),
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Photo]:
    folder = tmp_path_factory.mktemp("photos")
    make_photos(folder, 2)
    return list(find_photos([folder], recursive=True))


def test_everything_is_measured(own_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    defaults = json.loads((own_bundle / MANIFEST).read_text())["defaults"]
    edit_manifest(own_bundle, defaults=defaults | {"steps": 1})  # quicker
    out = tmp_path / "out"
    report = serve.main(["--engines", str(own_bundle), "--out", str(out), "--requests", "8", "--photos", "6"])
    assert report.cores > 0
    assert report.guard == "report"
    overhead, throughput, memory = report.overhead, report.throughput, report.memory
    assert overhead.pairs == 6
    assert overhead.alone > 0
    # The differences are times, and so may be of either sign in a run as small as this one.
    assert math.isfinite(overhead.p50)
    assert overhead.p50 <= overhead.p99
    assert math.isfinite(overhead.noise)
    assert (throughput.photos, throughput.steps, throughput.users) == (2, 1, 4 * throughput.batch)
    measured = (throughput.service, throughput.folder, throughput.locust, throughput.locust_seconds, throughput.ratios)
    assert all(len(values) == 3 and min(values) > 0 for values in measured)
    assert memory.requests == [0, 2, 4, 6, 8]
    assert len(memory.sizes) == 5
    assert 50e3 < memory.first <= memory.highest < 50e6
    assert 50e3 < memory.last <= memory.highest
    assert math.isfinite(memory.slope)
    assert json.loads((out / "serve.json").read_text()) == asdict(report)
    written = (out / "serve.md").read_text()
    assert written in capsys.readouterr().out
    rows = written.splitlines()[2:]
    assert len(rows) == 13
    assert all(row.count("|") == 4 for row in rows)


def test_other_bytes_are_noticed(anonymizer: Anonymizer, photos: list[Photo], monkeypatch: pytest.MonkeyPatch) -> None:
    paint = serve.paint
    monkeypatch.setattr(serve, "paint", lambda own, photo: paint(own, photo, serve.SEED + 1))
    with pytest.raises(ServiceError, match="other bytes"):
        serve.measure_overhead(anonymizer, photos)


def test_failures_are_noticed(anonymizer: Anonymizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no.jpg").write_bytes(b"no photo")
    [photo] = find_photos([tmp_path / "no.jpg"])
    with serving(anonymizer, "off") as service:
        with pytest.raises(ServiceError, match="photo"):
            service.ask(write_form({}, photo.read()))
        with pytest.raises(ServiceError, match="'422': 1"):
            serve.run_load(service, [photo], 1, tmp_path / "load")
    with pytest.raises(ServiceError, match="does not answer"):
        service.ask(write_form({}))
    with pytest.raises(ServiceError, match="has ended"):
        service.memory()
    with pytest.raises(ServiceError, match="ended before"), serving(anonymizer, "off", "--batch-size", "0"):
        pass
    monkeypatch.setattr(serve, "LOAD", tmp_path / "no.py")
    with pytest.raises(ServiceError, match="locust"):
        serve.run_load(service, [photo], 1, tmp_path / "no load")


def test_too_few_requests_are_an_error(demo_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="3 requests"):
        serve.measure(demo_bundle, 3, 4, tmp_path)
