"""Folder runs on a Ray cluster of two actors: the portraits and the journal are those of one process."""

import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from anon_runtime import Anonymizer, Settings
from anon_runtime.cli import main
from anon_runtime.commands import run_photos
from anon_runtime.errors import BackendError, BundleError, UsageError
from anon_runtime.folder.discovery import PRIVATE, Photo, find_photos
from anon_runtime.folder.exchange import Exchange
from anon_runtime.folder.journal import Journal
from anon_runtime.folder.journal_file import ACTORS, NAME
from anon_runtime.folder.options import RunMode, RunOptions
from anon_runtime.folder.ray_cluster import LOCAL, Cluster, connect, find_room
from anon_runtime.folder.ray_run import DEATHS, Actor, Result
from anon_runtime.folder.report import REPORT_JSON
from anon_runtime.folder.watch import gather
from anon_runtime.folder.writer import Output
from tests.runtime.runs import QUICK, QUIET, corrupt_files, decide_about, entries, images, run, start, traces, wait_for

pytestmark = pytest.mark.ray
TWO = RunOptions(batch_size=2)

ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytest.importorskip("ray.data")


@pytest.fixture(scope="module")
def cluster(demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A private Ray cluster on this machine with two actors; it is started once."""
    before = set(Path(tempfile.gettempdir()).glob("anon-ray-*"))
    load = partial(Anonymizer.load, demo_bundle, QUICK, threads=1, checksum=False)
    with connect(LOCAL, load, device="cpu", threads=1) as found:
        if found.actors < 2:
            pytest.skip("two actors need two cores")
        yield replace(found, actors=2)
    assert set(Path(tempfile.gettempdir()).glob("anon-ray-*")) <= before, "Ray's files were removed"


@pytest.fixture(scope="module")
def undisturbed(demo_bundle: Path, originals: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of the portraits of a run in one process, by name."""
    out = tmp_path_factory.mktemp("one process")
    assert run(Anonymizer.load(demo_bundle, QUICK, threads=1), originals, out, batch_size=2) == 0
    return images(out)


def facts(out: Path) -> list[str]:
    """The lines of the journal without seconds and summaries: the first line, and then the others, sorted."""
    lines = [line for text in (out / NAME).read_text().splitlines() if "summary" not in (line := json.loads(text))]
    return [json.dumps(lines[0]["run"]), *sorted(json.dumps({**line, "seconds": 0}) for line in lines[1:])]


def actors() -> list[int]:
    """The process ids of the actors."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"ray::MapWorker(MapBatches(Actor))" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue  # the process has ended
    return found


def meanwhile(work: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_the_same_bytes_journal_and_exit_code(
    cluster: Cluster,
    demo_bundle: Path,
    photos: Path,
    tmp_path: Path,
    undisturbed: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, content in corrupt_files().items():
        (photos / name).write_bytes(content)
    Image.open(photos / "1.jpg").convert("CMYK").save(photos / "cmyk.jpg")
    one, many = tmp_path / "one", tmp_path / "many"
    assert run(cluster.load(), photos, one, batch_size=2) == 3
    alone, caplog.records[:] = [r.getMessage() for r in caplog.records if "CMYK" in r.getMessage()], []
    assert run(cluster.load(), photos, many, connected=nullcontext(cluster), batch_size=2) == 3
    assert images(many) == images(one)
    assert images(many).items() >= undisturbed.items()
    assert facts(many) == facts(one)
    assert len(entries(many)) == 27
    assert not (many / PRIVATE).exists()
    assert [r.getMessage() for r in caplog.records if "CMYK" in r.getMessage()] == alone != []
    with pytest.raises(UsageError, match="threads was 1 and is 2"):
        run(Anonymizer.load(demo_bundle, QUICK, threads=2), photos, many, batch_size=2)


@pytest.mark.parametrize("mode", ["in-place", "faces"])
def test_faces_in_place_and_one_by_one(
    cluster: Cluster, demo_bundle: Path, photos: Path, tmp_path: Path, mode: RunMode
) -> None:
    """Photos with two faces each; with one mode, the people of a photo are kept."""
    settings = replace(QUICK, guard="report")
    group = Image.new("RGB", (700, 512), "gray")
    group.paste(Image.open(photos / "1.jpg").resize((512, 512)), (0, 0))
    group.paste(Image.open(photos / "1.jpg").resize((160, 160)), (530, 100))
    for photo in list(photos.rglob("*")):
        if photo.is_file():
            photo.unlink()
    for number in range(6):
        group.save(photos / f"{number}.png")
        group.putpixel((0, 0), (number, 0, 0))
    (tmp_path / "agreed").mkdir()
    group.crop((530, 100, 690, 260)).resize((320, 320)).save(tmp_path / "agreed" / "small.png")
    keep = [] if mode == "faces" else list(find_photos([tmp_path / "agreed"]))
    own = replace(cluster, load=partial(Anonymizer.load, demo_bundle, settings, threads=1, checksum=False))
    options = RunOptions(batch_size=2, mode=mode)
    for name, connected in (("one", None), ("many", nullcontext(own))):
        output, found = Output.parse(tmp_path / name), list(find_photos([photos]))
        assert run_photos(own.load(), found, output, options, QUIET, connected=connected, keep=keep) == 0
    assert images(tmp_path / "many") == images(tmp_path / "one")
    assert facts(tmp_path / "many") == facts(tmp_path / "one")
    lines = entries(tmp_path / "many")
    assert len(lines) == (12 if mode == "faces" else 6)
    if mode == "in-place":
        assert {line["replaced"] + line["kept"] for line in lines} == {2}
        assert sum(line["kept"] for line in lines)
    assert not (tmp_path / "many" / PRIVATE).exists()


def test_an_actor_that_is_killed(cluster: Cluster, photos: Path, tmp_path: Path, undisturbed: dict[str, str]) -> None:
    out, killed = tmp_path / "out", []

    def kill() -> None:
        wait_for(out, 1)
        killed.append(actors()[0])
        os.kill(killed[0], signal.SIGKILL)
        killed.append(len(list(out.rglob("*.png"))))

    thread = meanwhile(kill)
    assert run(cluster.load(), photos, out, connected=nullcontext(cluster), batch_size=2) == 0
    thread.join()
    assert len(killed) == 2
    assert killed[1] < 14, "the actor was killed during the run"
    assert images(out) == undisturbed
    assert not (out / PRIVATE).exists()
    assert Counter(entry["output"] for entry in entries(out)) == dict.fromkeys(undisturbed, 1)


def test_a_killed_run_goes_on_and_reads_urls(
    cluster: Cluster, demo_bundle: Path, photos: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    """One process begins the run, the cluster continues it and is killed, and the last runs read URLs and files."""
    out, address = tmp_path / "out", ray.get_runtime_context().gcs_address
    assert run_photos(cluster.load(), list(find_photos([photos])), Output.parse(out), TWO, QUIET) == 0
    first = entries(out)
    with start(demo_bundle, photos, out, "--threads", "1", "--ray", address) as process:
        wait_for(out, len(first) + 1)
        process.kill()
    done = {name: digest for name, digest in images(out).items() if not name.startswith(PRIVATE)}
    assert done.items() <= undisturbed.items()
    assert len(entries(out)) <= len(done)
    url = f"fsspec+file://{photos}"
    found = list(find_photos([url], recursive=True))
    assert run_photos(cluster.load(), found, Output.parse(out), TWO, QUIET, connected=nullcontext(cluster)) == 0
    assert images(out) == undisturbed
    assert Counter(entry["output"] for entry in entries(out)) == dict.fromkeys(undisturbed, 1)
    assert entries(out)[: len(first)] == first, "photos that are done are not processed again"
    before = facts(out)
    assert run(cluster.load(), photos, out, batch_size=2) == 0
    assert facts(out) == before, "all photos are done"


def test_the_guard_decides_as_in_one_process(cluster: Cluster, demo_bundle: Path, people: Path, tmp_path: Path) -> None:
    """The same portraits are released, in the same attempts, and the people's embeddings are not left behind."""
    load = partial(Anonymizer.load, demo_bundle, Settings(steps=6), threads=1, checksum=False)
    one, many = tmp_path / "one", tmp_path / "many"
    code = run(load(), people, one, batch_size=2)
    assert run(load(), people, many, connected=nullcontext(replace(cluster, load=load)), batch_size=2) == code
    assert images(many) == images(one)
    assert facts(many) == facts(one)
    assert len({entry["attempt"] for entry in entries(many)}) > 1
    assert not (many / PRIVATE).exists()
    shown = [json.loads((out / REPORT_JSON).read_text())["summary"] for out in (one, many)]
    for part in ("counts", "originals", "own", "others", "alike", "words", "uncoarsened", "groups"):
        assert shown[0][part] == shown[1][part]


def test_actors_know_what_people_have_decided(
    cluster: Cluster, photos: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    one, many = tmp_path / "one", tmp_path / "many"
    for out, connected in ((one, None), (many, cluster)):
        assert run(cluster.load(), photos, out, batch_size=2) == 0
        decide_about(out, "1.png", "repaint")
        decide_about(out, "2.png", "refuse")
        assert run(cluster.load(), photos, out, connected=connected and nullcontext(connected), batch_size=2) == 3
    assert images(many) == images(one)
    assert images(many)["1.png"] != undisturbed["1.png"]
    assert "2.png" not in images(many)


def test_ray_gets_no_embeddings(demo_bundle: Path, people: Path, actor: Callable[..., Actor], tmp_path: Path) -> None:
    anonymizer = Anonymizer.load(demo_bundle, replace(QUICK, guard="report"), threads=1, checksum=False)
    assert anonymizer.inspector is not None
    worker, photos = actor(lambda: anonymizer), list(find_photos([people]))[:3]
    exchange = Exchange(tmp_path / "out" / PRIVATE)
    surveyed = worker({"number": [7], "photos": [pickle.dumps(photos)]})["result"][0]
    survey = exchange.survey(7)
    assert len(survey) == pickle.loads(surveyed).surveyed == 3
    exchange.put_crowd(gather([survey], anonymizer.inspector))
    released = worker({"number": [7], "photos": [pickle.dumps(None)]})["result"][0]
    assert [record.status for record in pickle.loads(released).records] == ["ok"] * 3
    for embedding in survey.embeddings:
        assert not [trace for trace in traces(embedding) if trace in surveyed + released]
        assert [trace for trace in traces(embedding) if trace in pickle.dumps(survey)], "the search works"


def test_ctrl_c_ends_after_the_images_in_flight(
    cluster: Cluster, photos: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    out = tmp_path / "out"
    many = [Photo(photo.path, Path(f"{i}") / photo.name) for i in range(4) for photo in find_photos([photos])]

    def interrupt() -> None:
        wait_for(out, 1)
        os.kill(os.getpid(), signal.SIGINT)

    thread = meanwhile(interrupt)
    code = run_photos(cluster.load(), many, Output.parse(out), TWO, QUIET, connected=nullcontext(cluster))
    assert code == 130
    thread.join()
    done = images(out)
    assert 0 < len(done) < len(many)
    assert {entry["output"] for entry in entries(out)} == set(done)
    assert all(undisturbed[name.partition("/")[2]] == digest for name, digest in done.items())


def test_too_many_failures(cluster: Cluster, photos: Path, tmp_path: Path) -> None:
    for i in range(60):
        (photos / f"broken {i}.jpg").write_bytes(b"broken")
    with pytest.raises(Exception, match="`max_failures` is 3"):
        run(cluster.load(), photos, tmp_path / "out", connected=nullcontext(cluster), batch_size=2, max_failures=3)
    assert all(entry["status"] == "ok" or "known format" in entry["reason"] for entry in entries(tmp_path / "out"))


def test_names_are_in_no_file_of_rays(cluster: Cluster, demo_bundle: Path, photos: Path, tmp_path: Path) -> None:
    Image.open(photos / "1.jpg").convert("CMYK").save(photos / "john_smith.jpg")
    (photos / "jane_doe.jpg").write_bytes(b"broken")
    load = partial(Anonymizer.load, demo_bundle, QUICK, threads=1, checksum=False)
    connected = nullcontext(replace(cluster, load=load))
    assert (
        run(load(), photos, tmp_path / "out", connected=connected, batch_size=2, rename="hash", seed=9_876_543_210_123)
        == 3
    )
    journal = (tmp_path / "out" / NAME).read_text()
    assert "john" not in journal
    assert "jane" not in journal
    session = Path(ray._private.worker._global_node.get_session_dir_path())  # noqa: SLF001 - Ray has no public way
    assert session.parents[1].stat().st_mode & 0o777 == 0o700
    files = [path for path in session.rglob("*") if path.is_file()]
    logs = {path: path.read_bytes() for path in files}
    assert any(b"MapWorker" in content for content in logs.values()), "Ray writes its logs here"
    assert not [path for path, content in logs.items() if b"john_smith" in content or b"jane_doe" in content]


@pytest.fixture
def actor(cluster: Cluster, tmp_path: Path) -> Iterator[Callable[..., Actor]]:
    """Create actors in this process."""
    logger = logging.getLogger("anon_runtime")
    before, level = list(logger.handlers), logger.level
    (tmp_path / "out" / PRIVATE).mkdir(parents=True)

    def make(load: Callable[[], Anonymizer]) -> Actor:
        return Actor(load, Output(tmp_path / "out"), TWO, ray.put(({}, {}, {})), Path.cwd())

    yield make
    logger.handlers[:], logger.propagate = before, True
    logger.setLevel(level)


def generate(actor: Actor, photos: Path) -> Result:
    found = list(find_photos([photos]))[:1]
    result = pickle.loads(actor({"number": [7], "photos": [pickle.dumps(found)]})["result"][0])
    assert isinstance(result, Result)
    return result


def test_what_ends_a_run_is_told_not_raised(
    cluster: Cluster, actor: Callable[..., Actor], photos: Path, tmp_path: Path
) -> None:
    """If an actor raised an error, Ray would write names of photos into its log, and try again."""

    def damaged() -> Anonymizer:
        raise BundleError("unet", "damaged", "build again")

    result = generate(actor(damaged), photos)
    assert isinstance(result.error, BundleError)
    assert result.error.why == "damaged"
    assert result.records == []
    assert [path.name for path in (tmp_path / "out" / PRIVATE).iterdir()] == [ACTORS]
    result = generate(actor(cluster.load), photos)
    assert result.error is None
    assert [entry["status"] for entry in result.entries] == ["ok"]


def test_photos_that_kill_actors_end_the_run(
    cluster: Cluster, actor: Callable[..., Actor], photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "out" / PRIVATE / "attempts-7").write_bytes(b"." * (DEATHS - 1))
    assert generate(actor(cluster.load), photos).error is None
    (tmp_path / "out" / PRIVATE / "attempts-7").write_bytes(b"." * DEATHS)
    error = generate(actor(cluster.load), photos).error
    assert isinstance(error, BackendError)
    assert "killed or crashed" in error.why


def test_a_machine_with_another_bundle(cluster: Cluster, own_bundle: Path, photos: Path, tmp_path: Path) -> None:
    manifest = own_bundle / "bundle.json"
    manifest.write_text(manifest.read_text() + "\n")
    other = replace(cluster, load=partial(Anonymizer.load, own_bundle, QUICK, threads=1, checksum=False))
    with pytest.raises(BundleError, match=r"engines is .* here and .* there"):
        run(cluster.load(), photos, tmp_path / "out", connected=nullcontext(other), batch_size=2)
    assert images(tmp_path / "out") == {}


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from anon_runtime.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)


def test_no_cluster_of_that_name(demo_bundle: Path, photos: Path, tmp_path: Path) -> None:
    arguments = ("-o", str(tmp_path / "out"), "--engines", str(demo_bundle), "--ray=127.0.0.1:9")
    result = command(str(photos), *arguments)
    assert result.returncode == 2
    assert "there is no cluster of Ray" in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_without_the_extra(demo_bundle: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"Ray is not installed; pip install 'anon-engines\[ray\]'"):
        connect(LOCAL, partial(Anonymizer.load, demo_bundle), device="cpu").__enter__()


@pytest.mark.parametrize("arguments", [("--prompt", "a", "-o", "out"), ("photo.jpg", "--prompt-only")])
def test_what_needs_no_cluster(arguments: tuple[str, ...]) -> None:
    result = command(*arguments, "--ray")
    assert result.returncode == 2
    assert "--ray spreads photos over machines" in result.stderr


def test_room_for_actors(demo_bundle: Path) -> None:
    nodes = [{"CPU": 16.0, "GPU": 2.0}, {"CPU": 8.0, "GPU": 1.0}, {"memory": 1e9}]
    load = partial(Anonymizer.load, demo_bundle)
    room = find_room(load, nodes, device="cpu", threads=None)
    assert (room.actors, room.resources) == (3, {"num_cpus": 8.0}), (
        "each actor has as many cores as the smallest machine"
    )
    room = find_room(load, nodes, device="cpu", threads=3)
    assert (room.actors, room.resources) == (5 + 2, {"num_cpus": 3.0})
    room = find_room(load, nodes, device="cuda", threads=None)
    assert (room.actors, room.resources) == (3, {"num_gpus": 1.0})
    with pytest.raises(UsageError, match="no machine of the cluster has a GPU"):
        find_room(load, [{"CPU": 4.0}], device="cuda", threads=None)
    with pytest.raises(UsageError, match="has 64 cores"):
        find_room(load, nodes, device="cpu", threads=64)


def test_a_bundle_is_opened_once_by_the_process_that_was_started(
    cluster: Cluster, demo_bundle: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    load = Anonymizer.load

    def counting(*arguments: Any, **options: Any) -> Anonymizer:
        opened.append(arguments)
        return load(*arguments, **options)

    monkeypatch.setattr(Anonymizer, "load", counting)
    monkeypatch.setattr("anon_runtime.cli.run_photos", lambda *_, connected, **__: connected.__enter__() and 0)
    monkeypatch.setattr("anon_runtime.folder.ray_cluster.LOCAL", "no other Ray in this process")
    monkeypatch.setattr(ray, "init", lambda *_, **__: None)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with pytest.raises(SystemExit) as caught:
        main([str(photos), "-o", str(tmp_path / "out"), "--engines", str(demo_bundle), "--threads", "1", "--ray"])
    assert caught.value.code == 0
    assert len(opened) == 1


def test_the_folder_is_held_while_an_actor_generates(
    actor: Callable[..., Actor], cluster: Cluster, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock stays after the process that held the journal was killed."""
    monkeypatch.setattr("anon_runtime.folder.journal_file.SOON", 0.1)
    tried: list[str] = []

    def load() -> Anonymizer:
        with pytest.raises(UsageError) as caught:
            Journal(tmp_path / "out", {}, b"")
        tried.append(str(caught.value))
        return cluster.load()

    result = generate(actor(load), photos)
    assert result.error is None
    assert len(tried) == 1
    assert "another run is writing" in tried[0]
    Journal(tmp_path / "out", {}, b"").close()


def test_the_cluster_is_gone_before_the_journal_is_closed(cluster: Cluster, photos: Path, tmp_path: Path) -> None:
    @contextmanager
    def connected() -> Iterator[Cluster]:
        yield cluster
        with pytest.raises(UsageError, match="another run is writing"):
            Journal(tmp_path / "out", {}, b"")

    assert run(cluster.load(), photos, tmp_path / "out", connected=connected(), batch_size=2) == 0
