"""Folder runs with the guard: what a stub painter paints is refused or released, and no trace of a face is left."""

import json
import shutil
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anon_runtime import Anonymizer, Settings
from anon_runtime.diffusion.generator import TokenizedRequest
from anon_runtime.errors import PhotoError, UsageError
from anon_runtime.folder.discovery import PRIVATE, find_photos
from anon_runtime.folder.identity import identify
from anon_runtime.folder.journal_file import NAME
from anon_runtime.folder.options import RunOptions
from anon_runtime.folder.report import REPORT_JSON
from anon_runtime.folder.run import Summary, run_folder
from anon_runtime.folder.writer import Output
from anon_runtime.guard.trial import Attempt
from anon_runtime.types import Portrait
from tests.runtime.runs import PEOPLE, QUIET, decide_about, entries, images, start, traces, wait_for
from tests.runtime.stand_ins import StandInEngines

GUARDED = Settings(steps=1, guidance_scale=1, guard="strict")
Paint = Callable[[str, int], Image.Image]  # from the name of a photo and the number of the attempt to a portrait


@pytest.fixture
def guarded(own_engines: StandInEngines) -> Anonymizer:
    """An anonymizer with the guard."""
    return Anonymizer.of(own_engines, GUARDED)


@pytest.fixture
def paints(monkeypatch: pytest.MonkeyPatch, people: Path) -> Callable[[Anonymizer, Paint], list[tuple[str, int]]]:
    """Let a function paint all portraits of an anonymizer; the list of its calls is returned."""
    seeds = {
        Attempt(number, 0).seed(identify(photo.read_bytes(), 0).seed): (photo.name, number)
        for photo in people.iterdir()
        for number in range(9)
    }

    def install(anonymizer: Anonymizer, paint: Paint) -> list[tuple[str, int]]:
        calls: list[tuple[str, int]] = []

        def generate(requests: Sequence[TokenizedRequest], progress: object = None) -> list[Portrait]:
            portraits = []
            for one in requests:
                name, attempt = seeds[one.request.seed]
                calls.append((name, attempt))
                image = paint(name, attempt)
                portraits.append(Portrait(image, one.request.prompt, one.request.negative_prompt, one.request.seed))
            return portraits

        monkeypatch.setattr(anonymizer.generator, "generate", generate)
        return calls

    return install


def run(anonymizer: Anonymizer, photos: Path | Sequence[Path], out: Path, **options: Any) -> Summary:
    gallery = list(find_photos([options.pop("gallery")])) if "gallery" in options else []
    stop = options.pop("stop", threading.Event())
    found = list(find_photos([photos] if isinstance(photos, Path) else photos))
    chosen = RunOptions(**{"batch_size": 3} | options)
    return run_folder(anonymizer, found, Output.parse(out), chosen, QUIET, stopping=nullcontext(stop), gallery=gallery)


@pytest.fixture
def photo(people: Path) -> Callable[[str], Image.Image]:
    """The photo of a name."""
    return lambda name: Image.open(people / name).convert("RGB")


def after(name: str, steps: int = 1) -> str:
    """The name of another photo."""
    return f"{(int(name[:2]) + steps) % PEOPLE:02}.png"


def test_a_painter_that_returns_the_photo_is_refused_every_time(
    guarded: Anonymizer, people: Path, paints: Any, photo: Any, tmp_path: Path
) -> None:
    calls = paints(guarded, lambda name, attempt: photo(name))
    summary = run(guarded, people, tmp_path / "out")
    assert summary.counts == {"refused": PEOPLE}
    assert images(tmp_path / "out") == {}
    assert sorted(calls) == [(f"{i:02}.png", attempt) for i in range(PEOPLE) for attempt in range(6)]
    lines = entries(tmp_path / "out")
    assert {(line["status"], line["cause"], line["attempt"]) for line in lines} == {("refused", "own original", 5)}
    assert all(line["similarity"] > 0.9 for line in lines)
    assert not (tmp_path / "out" / PRIVATE).exists()


def test_nobody_is_taken_for_somebody_else(
    guarded: Anonymizer, people: Path, paints: Any, photo: Any, tmp_path: Path
) -> None:
    paints(guarded, lambda name, attempt: photo(after(name, 8)))
    assert run(guarded, people, tmp_path / "out").counts == {"refused": PEOPLE}
    assert images(tmp_path / "out") == {}
    assert {line["cause"] for line in entries(tmp_path / "out")} == {"another person"}


@pytest.mark.parametrize(("faces", "cause"), [(0, "no face"), (2, "several faces")])
def test_a_portrait_shows_one_face(
    guarded: Anonymizer, people: Path, paints: Any, photo: Any, tmp_path: Path, faces: int, cause: str
) -> None:
    def paint(name: str, attempt: int) -> Image.Image:
        canvas = Image.new("RGB", (192 * 2, 192), "gray")
        for face in range(faces):
            canvas.paste(photo(after(name, face + 1)), (192 * face, 0))
        return canvas

    paints(guarded, paint)
    one = people / "00.png"
    assert run(guarded, [one], tmp_path / "out", report=False).counts == {"refused": 1}
    assert [line["cause"] for line in entries(tmp_path / "out")] == [cause]
    assert "similarity" not in entries(tmp_path / "out")[0]


def test_a_later_attempt_may_pass(guarded: Anonymizer, people: Path, paints: Any, photo: Any, tmp_path: Path) -> None:
    one, other = people / "00.png", photo("16.png")
    calls = paints(guarded, lambda name, attempt: other if attempt == 2 else photo(name))
    assert run(guarded, [one], tmp_path / "out").counts == {"ok": 1}
    assert list(dict.fromkeys(calls)) == [("00.png", 0), ("00.png", 1), ("00.png", 2)]
    (line,) = entries(tmp_path / "out")
    assert (line["attempt"], line["coarsening"]) == (2, 2)
    assert line["seed"] == Attempt(2, 2).seed(identify(one.read_bytes(), 0).seed)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "00.png")), np.asarray(other))
    assert line["similarity"] < 0.5


def test_what_people_decide_holds_in_later_runs(
    guarded: Anonymizer, people: Path, paints: Any, photo: Any, tmp_path: Path
) -> None:
    """The first attempt is refused by the guard, the second one passes, and so do the fourth and later ones."""
    out, files = tmp_path / "out", [people / "00.png", people / "02.png"]
    calls = paints(guarded, lambda name, attempt: photo(name if attempt in (0, 2) else f"{15 + attempt}.png"))
    assert run(guarded, files, out).counts == {"ok": 2}
    decide_about(out, "00.png", "repaint")
    decide_about(out, "02.png", "refuse")
    calls.clear()
    for again in range(2):
        assert run(guarded, files, out).counts == {"ok" if again == 0 else "done": 1, "refused": 1}
        assert list(dict.fromkeys(calls)) == [("00.png", 2), ("00.png", 3)]
        assert list(images(out)) == ["00.png"]
    line = entries(out)[-1]
    assert (line["output"], line["attempt"], line["coarsening"]) == ("00.png", 3, 2)
    report = json.loads((out / REPORT_JSON).read_text())
    assert (report["counts"]["ok"], report["refusals"]) == (1, {"a person": 1})
    calls.clear()
    (out / "00.png").unlink()
    assert run(guarded, files, out).counts == {"ok": 1, "refused": 1}
    assert list(dict.fromkeys(calls)) == [("00.png", 2), ("00.png", 3)], "the same trial"


def test_another_portrait_may_be_refused_by_the_guard(
    guarded: Anonymizer, people: Path, paints: Any, photo: Any, tmp_path: Path
) -> None:
    out, one = tmp_path / "out", [people / "00.png"]
    calls = paints(guarded, lambda name, attempt: photo(name if attempt else "16.png"))
    assert run(guarded, one, out).counts == {"ok": 1}
    decide_about(out, "00.png", "repaint")
    assert run(guarded, one, out).counts == {"refused": 1}
    assert {attempt for _, attempt in calls} == set(range(7)), "six attempts more"
    calls.clear()
    assert run(guarded, one, out).counts == {"refused": 1}
    assert (calls, images(out)) == ([], {})


def test_report_only_measures(
    own_engines: StandInEngines, people: Path, paints: Any, photo: Any, tmp_path: Path
) -> None:
    reporting = Anonymizer.of(own_engines, replace(GUARDED, guard="report"))
    paints(reporting, lambda name, attempt: photo(name))
    assert run(reporting, people, tmp_path / "out").counts == {"ok": PEOPLE}
    assert all(line["similarity"] > 0.9 and line["rank"] == 1 for line in entries(tmp_path / "out"))
    report = json.loads((tmp_path / "out" / REPORT_JSON).read_text())
    assert report["beyond"] == report["first"] == PEOPLE


def test_the_best_of_those_that_pass_is_kept(
    own_engines: StandInEngines, people: Path, paints: Any, photo: Any, tmp_path: Path
) -> None:
    picky = Anonymizer.of(own_engines, replace(GUARDED, best_of=3))
    own = people / "08.png"
    # The first portrait shows a man, so that the second one, a woman, agrees better.
    paints(picky, lambda name, attempt: photo([name, "16.png", "13.png", "00.png"][attempt]))
    assert run(picky, [own], tmp_path / "out").counts == {"ok": 1}
    (line,) = entries(tmp_path / "out")
    assert line["attempt"] == 2


def test_a_gallery_protects_people_who_are_not_in_the_run(
    guarded: Anonymizer, people: Path, paints: Any, photo: Any, tmp_path: Path
) -> None:
    paints(guarded, lambda name, attempt: photo("16.png"))
    alone = [people / "00.png"]
    assert run(guarded, alone, tmp_path / "one").counts == {"ok": 1}
    assert run(guarded, alone, tmp_path / "two", gallery=people).counts == {"refused": 1}
    assert [line["cause"] for line in entries(tmp_path / "two")] == ["another person"]
    gallery = json.loads((tmp_path / "two" / REPORT_JSON).read_text())["summary"]["gallery"]
    assert gallery == {"photos": PEOPLE, "faces": PEOPLE, "unreadable": 0, "without_face": 0}


def test_a_gallery_that_cannot_protect(
    own_engines: StandInEngines, people: Path, paints: Any, photo: Any, tmp_path: Path
) -> None:
    gallery = tmp_path / "gallery"
    gallery.mkdir()
    Image.new("RGB", (64, 64), "gray").save(gallery / "gray.png")
    strict = Anonymizer.of(own_engines, GUARDED)
    reporting = Anonymizer.of(own_engines, replace(GUARDED, guard="report"))
    off = Anonymizer.of(own_engines, replace(GUARDED, guard="off"))
    for anonymizer in (strict, reporting):
        paints(anonymizer, lambda name, attempt: photo("16.png"))
    alone = [people / "00.png"]
    with pytest.raises(UsageError, match="none of its 1 photos shows a face"):
        run(strict, alone, tmp_path / "out", gallery=gallery)
    with pytest.raises(UsageError, match="the guard is off"):
        run(off, alone, tmp_path / "out", gallery=gallery)
    photo("01.png").save(gallery / "01.png")
    assert run(strict, alone, tmp_path / "out", gallery=gallery).counts == {"ok": 1}
    (gallery / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(UsageError, match="1 of its 3 photos cannot be read"):
        run(strict, alone, tmp_path / "other", gallery=gallery)
    assert run(reporting, alone, tmp_path / "reported", gallery=gallery).counts == {"ok": 1}
    counted = json.loads((tmp_path / "reported" / REPORT_JSON).read_text())["summary"]["gallery"]
    assert counted == {"photos": 3, "faces": 1, "unreadable": 1, "without_face": 1}


def test_a_gallery_is_read_once(guarded: Anonymizer, people: Path, paints: Any, photo: Any, tmp_path: Path) -> None:
    gallery = tmp_path / "gallery"
    gallery.mkdir()
    photo("16.png").save(gallery / "16.png")
    face: Image.Image = photo("16.png")

    def paint(name: str, attempt: int) -> Image.Image:
        (gallery / "16.png").unlink(missing_ok=True)
        return face

    paints(guarded, paint)
    assert run(guarded, [people / "00.png"], tmp_path / "out", gallery=gallery).counts == {"refused": 1}


def test_an_earlier_portrait_is_withdrawn_when_somebody_comes_who_resembles_it(
    guarded: Anonymizer, people: Path, paints: Any, photo: Any, tmp_path: Path
) -> None:
    calls = paints(guarded, lambda name, attempt: photo("16.png"))
    out = tmp_path / "out"
    assert run(guarded, [people / "00.png"], out).counts == {"ok": 1}
    painted = len(calls)
    assert run(guarded, [people / "00.png"], out).counts == {"done": 1}
    assert len(calls) == painted, "a portrait that still passes is not painted again"
    assert run(guarded, [people / "00.png", people / "16.png"], out).counts == {"refused": 2}
    assert images(out) == {}
    painted = len(calls)
    assert run(guarded, [people / "00.png", people / "16.png"], out).counts == {"refused": 2}
    assert len(calls) == painted, "among the same people, a photo stays refused"
    assert run(guarded, [people / "00.png"], out).counts == {"ok": 1}
    assert run(guarded, [people / "00.png", people / "16.png"], out).counts == {"refused": 2}
    assert images(out) == {}, "an earlier refusal among these people does not let the new portrait stay"
    assert {line["input"]: line["status"] for line in entries(out)} == {"00.png": "refused", "16.png": "refused"}


def varied(photo: Callable[[str], Image.Image]) -> Paint:
    """A painter of whom some portraits are refused, each in another attempt, and one photo always."""

    def paint(name: str, attempt: int) -> Image.Image:
        if name == "05.png" or attempt < int(name[:2]) % 4:
            return photo(name)
        # A face in the middle of two people is none of both.
        return Image.blend(photo(after(name, 8)), photo(after(name, 16)), 0.5)

    return paint


def test_bytes_do_not_depend_on_order_splits_restarts_and_batches(
    own_engines: StandInEngines, people: Path, paints: Any, photo: Any, tmp_path: Path
) -> None:
    def fresh() -> Anonymizer:
        anonymizer = Anonymizer.of(own_engines, replace(GUARDED, min_rank=0))
        paints(anonymizer, varied(photo))
        return anonymizer

    files = sorted(people.iterdir())
    summary = run(fresh(), files, tmp_path / "whole")
    expected = images(tmp_path / "whole")
    assert 5 < summary.counts["ok"] == len(expected) < PEOPLE
    assert "05.png" not in expected
    known = {line["input"]: (line["status"], line["attempt"]) for line in entries(tmp_path / "whole")}
    assert len({attempt for status, attempt in known.values() if status == "ok"}) > 2
    run(fresh(), files[::-1], tmp_path / "reversed", batch_size=5)
    assert images(tmp_path / "reversed") == expected
    for half in (files[:10], files[10:]):
        run(fresh(), half, tmp_path / "split", gallery=people)
    assert images(tmp_path / "split") == expected
    stop, stopped = threading.Event(), fresh()

    def interrupted(name: str, attempt: int) -> Image.Image:
        if (name, attempt) == ("07.png", 1):
            stop.set()
        return varied(photo)(name, attempt)

    paints(stopped, interrupted)
    assert run(stopped, files, tmp_path / "again", stop=stop).ended == "stopped"
    assert len(images(tmp_path / "again")) < len(expected)
    run(fresh(), files, tmp_path / "again")
    assert images(tmp_path / "again") == expected
    assert {line["input"]: (line["status"], line["attempt"]) for line in entries(tmp_path / "again")} == known


def test_a_killed_run_goes_on(demo_bundle: Path, people: Path, tmp_path: Path) -> None:
    photos, whole, out = (tmp_path / name for name in ("photos", "whole", "out"))
    photos.mkdir()
    for path in sorted(people.iterdir())[::3]:
        shutil.copy(path, photos)
    more = ("--guard", "strict", "--steps", "6", "--guidance-scale", "7.5")
    with start(demo_bundle, photos, whole, *more) as undisturbed:
        undisturbed.communicate()
    expected = images(whole)
    assert len(expected) > 3
    with start(demo_bundle, photos, out, *more) as killed:
        wait_for(out, 2)
        killed.kill()
    assert (out / PRIVATE).exists()
    with start(demo_bundle, photos, out, *more) as again:
        messages = again.communicate()[1]
    assert "done before" in messages
    assert again.returncode == undisturbed.returncode
    assert images(out) == expected
    assert not (out / PRIVATE).exists()


def test_nothing_of_a_face_is_left_behind(
    guarded: Anonymizer, people: Path, paints: Any, photo: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paints(guarded, varied(photo))
    run(guarded, people, tmp_path / "out", gallery=people, log_attributes=True)
    left = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    text = left + caplog.text.encode()
    embedded = [guarded.describe(people / f"{i:02}.png").embedding for i in range(PEOPLE)]
    embedded += [guarded.describe(path).embedding for path in (tmp_path / "out").glob("*.png")]
    for embedding in embedded:
        assert embedding is not None
        assert not [trace for trace in traces(embedding) if trace in text]
    assert embedded[0] is not None
    assert all(trace in text + b"".join(traces(embedded[0])) for trace in traces(embedded[0])), "the search works"


def test_nan_from_the_recognition_network_releases_nothing(
    guarded: Anonymizer, own_engines: StandInEngines, people: Path, paints: Any, photo: Any, tmp_path: Path
) -> None:
    paints(guarded, lambda name, attempt: photo("16.png"))
    original, calls = own_engines["face_identity"], iter(range(99))

    def broken(inputs: Any) -> Any:
        answer = original(inputs)
        return answer if next(calls) == 0 else {"embedding": np.full_like(answer["embedding"], np.nan)}

    own_engines.replaced["face_identity"] = broken
    assert run(guarded, [people / "00.png"], tmp_path / "out").counts == {"error": 1}
    assert images(tmp_path / "out") == {}
    assert "NaN" in entries(tmp_path / "out")[0]["reason"]


def test_a_face_that_cannot_be_aligned_gives_no_portrait(
    guarded: Anonymizer, people: Path, paints: Any, photo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = paints(guarded, lambda name, attempt: photo("16.png"))

    def refuse(*_: object) -> None:
        raise PhotoError("its landmarks lie in one place", "use another photo")

    assert guarded.inspector is not None
    monkeypatch.setattr(guarded.inspector.encoder, "embed", refuse)
    assert run(guarded, [people / "00.png"], tmp_path / "out").counts == {"error": 1}
    assert not calls
    assert images(tmp_path / "out") == {}


def test_the_summary_is_in_the_journal_and_counts(
    guarded: Anonymizer, people: Path, paints: Any, photo: Any, tmp_path: Path
) -> None:
    paints(guarded, varied(photo))
    counts = run(guarded, people, tmp_path / "out").counts
    summary = json.loads((tmp_path / "out" / NAME).read_text().splitlines()[-1])["summary"]
    assert summary["counts"] == counts
    assert summary["originals"] == summary["found"] == PEOPLE
    assert summary["alike"]["portraits"] == counts["ok"] == summary["words"]["people"]
    assert summary["guard"]["effective_min_rank"] == 1
    assert summary["others"]["rate"] == pytest.approx(0.01 / PEOPLE)
