"""The service over a socket, with the demo's engines."""

import base64
import io
import json
import socket
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from anon_runtime import Anonymizer
from anon_runtime.cli import main
from anon_runtime.diffusion.generator import Generator
from anon_runtime.diffusion.samplers import State
from anon_runtime.service.options import ServiceOptions
from anon_runtime.types import Portrait
from tests.conftest import edit_manifest

from .conftest import Running, running

PROBLEM = "application/problem+json"


def post(
    serving: Running, path: str = "portraits", photo: Path | bytes | None = None, headers: Any = None, **form: object
) -> httpx.Response:
    """Send a form, with a photo whose name must not appear anywhere."""
    parts: list[Any] = [(name, (None, str(value))) for name, value in form.items()]
    if photo is not None:
        parts.append(("photo", ("Eileen.png", photo.read_bytes() if isinstance(photo, Path) else photo)))
    return serving.client.post(f"/v1/{path}", files=parts, headers=headers)


def events(serving: Running, path: str = "portraits", photo: Path | None = None, **form: Any) -> Any:
    files: list[Any] = [(name, (None, str(value))) for name, value in form.items()]
    if photo is not None:
        files.append(("photo", ("Eileen.png", photo.read_bytes())))
    headers = {"Accept": "text/event-stream", "X-Request-Id": "mine"}
    return serving.client.stream("POST", f"/v1/{path}", files=files, headers=headers)


def named(lines: list[str]) -> list[tuple[str, Any]]:
    """The names and data of events."""
    pairs = zip(lines[0::3], lines[1::3], strict=True)
    return [(name.removeprefix("event: "), json.loads(line.removeprefix("data: "))) for name, line in pairs]


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """Run ``anon-run``, and return the record that it prints."""
    with pytest.raises(SystemExit) as caught:
        main([*map(str, arguments), "--quiet", "--no-report", "--json"])
    assert caught.value.code == 0
    record: dict[str, Any] = json.loads(capsys.readouterr().out)
    return record


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_portraits_are_those_of_the_command_line(
    serving: Running,
    demo_bundle: Path,
    astronaut: Path,
    tmp_path: Path,
    kind: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """So is what the guard measures, which depends on the format."""
    flags = ("--engines", demo_bundle, "--seed", 7, "--steps", 2, "--format", kind, "--quality", 5)
    expected = command(capsys, astronaut, "--output", tmp_path, *flags)
    record = compare(serving, "portraits", expected, photo=astronaut, format=kind, seed=7, steps=2, quality=5)
    assert record["similarity"] is not None


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_photos_with_other_faces_are_those_of_the_command_line(
    serving: Running, demo_bundle: Path, couple: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--engines", demo_bundle, "--seed", 7, "--steps", 2, "--format", kind, "--mode", "in-place")
    expected = command(capsys, couple, "--output", tmp_path, *flags)
    record = compare(serving, "photos", expected, photo=couple, format=kind, seed=7, steps=2)
    assert (record["mode"], len(record["people"]), record["filled"]) == ("in-place", 2, [])
    assert all(one["similarity"] is not None for one in record["people"])


def test_chosen_faces_are_those_of_the_command_line(
    serving: Running, demo_bundle: Path, couple: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the second box there is no face, so that it is filled."""
    boxes = [[214, 100, 64, 81], [150, 200, 20, 24]]
    flags = [flag for box in boxes for flag in ("--only-box", ",".join(map(str, box)))]
    flags += ["--engines", str(demo_bundle), "--steps", "2", "--mode", "in-place"]
    expected = command(capsys, couple, "--output", tmp_path, *flags)
    record = compare(serving, "photos", expected, photo=couple, steps=2, only_box=json.dumps(boxes))
    assert [len(record[name]) for name in ("people", "filled", "kept")] == [1, 1, 1]


def compare(serving: Running, path: str, expected: dict[str, Any], **form: Any) -> dict[str, Any]:
    """Check that the service gives what a run has given, as a file and as a record; return its record."""
    data = Path(expected["output"]).read_bytes()
    kind = form.pop("format", "png")
    answer = post(serving, path, headers={"Accept": f"image/{kind}"}, **form)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == f"image/{kind}"
    assert answer.content == data
    record: dict[str, Any] = post(serving, path, format=kind, headers={"Accept": "application/json"}, **form).json()
    assert base64.b64decode(record["image"]["base64"]) == data
    assert record["image"]["media_type"] == f"image/{kind}"
    assert str(record["seed"]) == answer.headers["X-Seed"]
    assert set(record) == set(expected) - {"input", "output", "status", "reason"} | {"image"}
    for name in set(record) - {"image", "seconds"}:
        assert record[name] == expected[name], name
    return record


def test_prompts_and_attributes_are_those_of_the_command_line(
    serving: Running, demo_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attributes = {"Ethnic": "asian", "Age": 31, "Male": 0.9, "Smiling": 1}
    (tmp_path / "words.json").write_text(json.dumps(attributes))
    flags = ("--engines", demo_bundle, "--seed", 5, "--steps", 2)
    command(capsys, "--prompt", "portrait of a woman", "--output", tmp_path / "a.png", *flags)
    command(capsys, "--attributes", tmp_path / "words.json", "--output", tmp_path / "b.png", *flags)
    answer = post(serving, prompt="portrait of a woman", seed=5, steps=2)
    assert answer.content == (tmp_path / "a.png").read_bytes()
    answer = post(serving, attributes=json.dumps(attributes), seed=5, steps=2)
    assert answer.content == (tmp_path / "b.png").read_bytes()


def test_attributes_can_be_changed_for_a_photo(serving: Running, astronaut: Path) -> None:
    read = post(serving, "descriptions", astronaut, seed=7).json()
    assert read["face"] is not None
    assert "embedding" not in read
    own = read["attributes"] | {"Age": 71}
    headers = {"Accept": "application/json"}
    record = post(serving, photo=astronaut, seed=7, steps=2, attributes=json.dumps(own), headers=headers).json()
    assert record["seed"] == read["seed"]
    assert "white 71 woman" in record["prompt"]
    assert record["similarity"] is not None, "the guard compares with the photo"


def test_nothing_is_lost_or_mixed_up_under_load(anonymizer: Anonymizer) -> None:
    """Each of 200 answers to 200 requests at once is the one that its request gets when it is alone."""
    people = range(20)

    def ask(serving: Running, seed: int) -> bytes:
        form = {"prompt": (None, f"a man, {seed} years old"), "seed": (None, str(seed)), "steps": (None, "1")}
        # A client of its own, so that all of them have connections at the same time.
        with httpx.Client(base_url=serving.url, timeout=300, trust_env=False, verify=False) as client:
            answer = client.post("/v1/portraits", files=form)
        assert answer.status_code == 200, answer.text
        return answer.content

    with running(anonymizer, ServiceOptions(batch_size=2, queue=256)) as serving:
        alone = [ask(serving, seed) for seed in people]
        assert len(set(alone)) == len(people)
        with ThreadPoolExecutor(200) as pool:
            together = list(pool.map(partial(ask, serving), [*people] * 10))
        assert together == alone * 10
        assert serving.idle()


def test_the_guard_refuses_and_cannot_be_weakened(serving: Running, astronaut: Path) -> None:
    answer = post(serving, photo=astronaut, steps=1, fmr=0.9999, attempts=2)
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == PROBLEM
    assert answer.json()["type"] == "urn:anon-engines:refused"
    for weaker in ("off", "report"):
        answer = post(serving, photo=astronaut, steps=1, guard=weaker)
        assert answer.status_code == 400
        assert "this service is strict" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("form", "status", "word"),
    [
        ({"photo": b"this is no photo"}, 422, "photo"),
        ({"prompt": "  "}, 400, "empty"),
        ({"prompt": "a man", "attributes": "{}"}, 400, "prompt"),
        ({"negative_prompt": "a hat"}, 400, "negative_prompt"),
        ({}, 400, "neither a photo nor attributes"),
        ({"prompt": "a man", "stepps": 3}, 422, "stepps"),
        ({"prompt": "a man", "steps": 0}, 422, "steps"),
        ({"prompt": "a man", "steps": 900}, 400, "steps"),
        ({"prompt": "a man", "seed": 2**64}, 422, "seed"),
        ({"attributes": '{"Age": 3}'}, 400, "missing"),
        ({"attributes": "{"}, 422, "attributes"),
        ({"prompt": "a man", "headers": {"Accept": "text/html"}}, 406, "image/png"),
        ({"prompt": "a man", "format": "png", "headers": {"Accept": "image/webp"}}, 406, "image/png"),
    ],
)
def test_what_is_wrong_is_said(serving: Running, form: dict[str, Any], status: int, word: str) -> None:
    answer = post(serving, **(form or {"seed": 1}))
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == PROBLEM
    assert set(answer.json()) >= {"type", "title", "status", "detail"}
    assert word in answer.json()["detail"]


@pytest.mark.parametrize(
    ("form", "status", "word"),
    [
        ({"photo": None}, 422, "photo"),
        ({"photo": b"this is no photo"}, 422, "photo"),
        ({"prompt": "a man"}, 422, "prompt"),
        ({"attributes": "{}"}, 422, "attributes"),
        ({"preview_every": 1}, 422, "preview_every"),
        ({"only_box": "[]"}, 422, "only_box"),
        ({"only_box": "[1, 2, 3, 4]"}, 422, "only_box"),
        ({"only_box": "[[1, 2, 0, 4]]"}, 400, "only_box"),
        ({"only_box": "[[NaN, 2, 3, 4]]"}, 400, "only_box"),
        ({"only_box": "[[10, 10, 20, 20], [360, 2, 3, 4]]"}, 422, "lies outside of its 360 x 240 pixels"),
        ({"guard": "off"}, 400, "this service is strict"),
        ({"headers": {"Accept": "text/html"}}, 406, "image/png"),
    ],
)
def test_what_is_wrong_with_faces_to_replace_is_said(
    serving: Running, couple: Path, form: dict[str, Any], status: int, word: str
) -> None:
    answer = post(serving, "photos", **({"photo": couple} | form))
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == PROBLEM
    assert word in answer.json()["detail"]


@pytest.mark.parametrize("path", ["portraits", "photos"])
def test_a_photo_without_a_face_is_a_problem(serving: Running, coffee: Path, path: str) -> None:
    problem = post(serving, path, coffee).json()
    assert (problem["status"], problem["type"]) == (422, "urn:anon-engines:photo")
    assert problem["detail"] == f"{problem['what']}: {problem['why']}; {problem['fix']}"
    assert "Eileen" not in json.dumps(problem)


def test_a_bomb_is_refused(serving: Running) -> None:
    """A file of 50 kB with 400 million pixels."""
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "png")
    assert len(buffer.getvalue()) < 100_000
    answer = post(serving, photo=buffer.getvalue())
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:anon-engines:photo")
    assert "pixels" in answer.json()["detail"]


def test_events_tell_the_steps_and_end_with_the_portrait(serving: Running, astronaut: Path) -> None:
    lines = []
    with events(serving, prompt="a man", steps=4, preview_every=3) as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        lines = list(stream.iter_lines())
    data = named(lines)
    assert [name for name, _ in data] == ["step"] * 7 + ["portrait"]
    assert [one["done"] for _, one in data[:-1]] == [1, 2, 3, 4, 5, 6, 7]
    assert ["preview" in one for _, one in data[:-1]] == [False, False, True, False, False, True, False]
    alone = post(serving, prompt="a man", steps=4).content
    assert base64.b64decode(data[-1][1]["image"]["base64"]) == alone


def test_events_tell_the_steps_of_all_faces_and_end_with_the_photo(serving: Running, couple: Path) -> None:
    """No preview is shown: it would be a part of a photo that the guard has not seen."""
    with events(serving, "photos", couple, steps=2) as stream:
        data = named(list(stream.iter_lines()))
    assert [name for name, _ in data] == ["step"] * 3 + ["photo"]
    assert [one for _, one in data[:-1]] == [{"done": done, "total": 6, "attempt": 0} for done in (2, 4, 6)]
    alone = post(serving, "photos", couple, steps=2).content
    assert base64.b64decode(data[-1][1]["image"]["base64"]) == alone


def test_a_refused_photo_gives_a_problem_and_nothing_else(serving: Running, couple: Path) -> None:
    form: dict[str, Any] = {"steps": 1, "fmr": 0.9999, "attempts": 2}
    for accept in ("image/png", "application/json"):
        answer = post(serving, "photos", couple, headers={"Accept": accept}, **form)
        assert (answer.status_code, answer.headers["Content-Type"]) == (422, PROBLEM)
        assert answer.json()["type"] == "urn:anon-engines:refused"
        assert set(answer.json()) == {"type", "title", "status", "detail", "what", "why", "fix"}
    with events(serving, "photos", couple, **form) as stream:
        data = named(list(stream.iter_lines()))
    assert {name for name, _ in data[:-1]} == {"step"}
    assert (data[-1][0], data[-1][1]["status"]) == ("problem", 422)
    assert "base64" not in json.dumps(data)


def test_a_bundle_that_cannot_replace_faces_says_so(own_bundle: Path, couple: Path) -> None:
    manifest = json.loads((own_bundle / "bundle.json").read_text())
    del manifest["engines"]["vae_encoder"]
    edit_manifest(own_bundle, engines=manifest["engines"])
    with (
        Anonymizer.load(own_bundle, checksum=False) as anonymizer,
        running(anonymizer, ServiceOptions()) as serving,
    ):
        assert serving.client.get("/v1/info").json()["modes"] == ["portrait"]
        answer = post(serving, "photos", couple, steps=1)
        assert (answer.status_code, answer.headers["Content-Type"]) == (500, PROBLEM)
        assert "vae_encoder" in answer.json()["detail"]
        assert answer.json()["fix"]
        assert serving.idle()
        assert post(serving, prompt="a man", steps=1).status_code == 200


def test_events_end_with_the_problem(serving: Running) -> None:
    with events(serving, prompt="a man", steps=900) as stream:
        stream.read()
        assert stream.status_code == 400


@pytest.fixture
def evaluations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The evaluations that are done, by their numbers."""
    seen: list[int] = []
    real = Generator.generate

    def generate(self: Generator, requests: Any, *, after: Any, **options: Any) -> list[Portrait]:
        def counted(state: State) -> None:
            seen.append(state.evaluation)
            after(state)

        return real(self, requests, after=counted, **options)

    monkeypatch.setattr(Generator, "generate", generate)
    return seen


@pytest.mark.parametrize("how", ["delete", "close"])
def test_cancelling_frees_the_engines(serving: Running, how: str, evaluations: list[int]) -> None:
    with events(serving, prompt="a man", steps=50) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: step"
        if how == "delete":
            assert httpx.delete(f"{serving.url}/v1/portraits/mine", trust_env=False).status_code == 204
            assert '"status":409' in list(lines)[-2]
    assert serving.idle()
    assert httpx.delete(f"{serving.url}/v1/portraits/mine", trust_env=False).status_code == 404
    assert post(serving, prompt="a man", steps=1).status_code == 200
    assert 1 < max(evaluations) < 99, "portraits are painted one after another, and this one was not painted to its end"


def test_a_closed_connection_cancels(serving: Running, evaluations: list[int]) -> None:
    form = {"prompt": (None, "a man"), "steps": (None, "50")}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{serving.url}/v1/portraits", files=form, timeout=0.5, trust_env=False)
    assert serving.idle()
    assert post(serving, prompt="a man", steps=1).status_code == 200
    assert max(evaluations) < 99, "as many evaluations as it got to in its time, and not all of them"


def test_too_many_requests_are_sent_away_and_late_ones_ended(anonymizer: Anonymizer) -> None:
    with running(anonymizer, ServiceOptions(queue=1, deadline=1)) as serving:
        answers = []
        slow = threading.Thread(target=lambda: answers.append(post(serving, prompt="a man", steps=50)))
        slow.start()
        while not serving.service.studio.active:
            time.sleep(0.01)
        busy = post(serving, prompt="a man", steps=1)
        assert busy.status_code == 503
        assert busy.json()["type"] == "urn:anon-engines:busy"
        assert int(busy.headers["Retry-After"]) >= 1
        slow.join()
        assert answers[0].status_code == 504
        assert serving.idle()


@pytest.mark.parametrize("path", [b"portraits", b"photos"])
def test_no_body_is_read_for_which_there_is_no_room(anonymizer: Anonymizer, path: bytes) -> None:
    """An upload that has begun counts, and one that ends in whatever way makes room."""
    head = b"POST /v1/" + path + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n"
    head += b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    with running(anonymizer, ServiceOptions(queue=1)) as serving:
        address = httpx.URL(serving.url)
        for _ in range(2):
            with closing(socket.create_connection((address.host, address.port), 20)) as first:
                first.sendall(head)
                assert first.recv(4096).startswith(b"HTTP/1.1 100"), "its body is waited for"
                assert post(serving, prompt="a man", steps=1).status_code == 503
                with closing(socket.create_connection((address.host, address.port), 20)) as second:
                    second.sendall(head)
                    answer = b"".join(iter(lambda: second.recv(4096), b""))
                assert answer.startswith(b"HTTP/1.1 503")
                assert b"connection: close" in answer.lower()
            end = time.monotonic() + 20
            while post(serving, prompt="a man", steps=1).status_code != 200:
                assert time.monotonic() < end
                time.sleep(0.01)
        assert b'status="503"' in serving.client.get("/metrics").content


def test_nothing_is_written_to_disk_or_logged(
    serving: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, astronaut: Path
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a temporary file was made")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("TemporaryFile", "NamedTemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, name, forbidden)
    with Image.open(astronaut) as image:
        face = np.asarray(image.convert("RGB").resize((1400, 1400)))
    noise = np.random.default_rng(0).integers(-20, 20, face.shape)
    Image.fromarray((face + noise).clip(0, 255).astype(np.uint8)).save(tmp_path / "large.png")
    photo = (tmp_path / "large.png").read_bytes()
    (tmp_path / "large.png").unlink()
    assert len(photo) > 4 * 2**20
    with caplog.at_level("DEBUG", logger="anon_runtime"):
        assert post(serving, photo=photo, steps=2).status_code == 200
    assert list(tmp_path.iterdir()) == []
    assert "Eileen" not in caplog.text
    assert "woman" not in caplog.text


def test_figures_and_facts(serving: Running, demo_bundle: Path) -> None:
    post(serving, prompt="a man", steps=1)
    text = serving.client.get("/metrics").text
    assert 'anon_requests_total{route="/v1/portraits",status="200"}' in text
    assert 'anon_stage_seconds_total{stage="unet"}' in text
    info = serving.client.get("/v1/info").json()
    manifest = json.loads((demo_bundle / "bundle.json").read_text())
    assert info["bundle"]["key"] == manifest["key"]
    assert info["guard"] == "strict"
    assert info["modes"] == ["portrait", "in-place"]
    unet = manifest["engines"]["unet"]["path"]
    assert info["engines"]["unet"]["sha256"] == manifest["files"][unet]["sha256"]
    routes = serving.client.get("/openapi.json").json()["paths"]
    assert {"/v1/portraits", "/v1/photos", "/v1/descriptions", "/v1/info", "/healthz", "/readyz", "/metrics"} <= set(
        routes
    )
    assert serving.client.get("/docs").status_code == 404, "its page loads scripts from another site"
