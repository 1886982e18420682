from pathlib import Path

import pytest

from anon_export import build as builder
from anon_export.cli import main
from anon_runtime.bundle import Bundle, Manifest


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    return int(caught.value.code or 0), capsys.readouterr().err


def test_a_folder_that_is_no_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, message = call(capsys, "build", tmp_path, "--output", tmp_path / "out", "--faces", "none", "-q")
    assert code == 1 and "model_index.json" in message and message.count("\n") == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_names_cannot_lead_out_of_the_output(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("..", "../x", "a/b", "/x", "."):
        code, message = call(capsys, "build", "demo", "--name", name, "--output", tmp_path)
        assert code == 2 and "--name" in message


def test_the_plan_follows_the_options(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo_bundle: Path
) -> None:
    plans = []

    def build(plan: builder.Plan, report: builder.Report) -> Bundle:
        plans.append(plan)
        report("unet")
        return Bundle.open(demo_bundle)

    monkeypatch.setattr(builder, "build", build)
    code, message = call(capsys, "build", tmp_path, "--output", tmp_path, "--timestep-spacing", "trailing")
    assert code == 0 and "128 x 128" in message and "spacing leading" in message and "unet" in message
    assert plans == [builder.Plan(str(tmp_path), tmp_path.name, tmp_path, "facer+deepface", "onnxruntime", "trailing")]
    assert call(capsys, "--help")[0] == 0


def test_missing_face_packages_are_named_before_any_work(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anon_export.faces.find_spec", lambda _: None)
    code, message = call(capsys, "build", tmp_path, "--output", tmp_path / "out", "-q")
    assert code == 1 and "anon-engines[deepface,facer]" in message and message.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_inspect_shows_what_a_bundle_holds(capsys: pytest.CaptureFixture[str], demo_bundle: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["inspect", str(demo_bundle)])
    text = capsys.readouterr().out
    assert caught.value.code == 0
    for word in ("128 x 128", "dpmpp_sde, 15 steps", "spacing leading", "centerface", "dB from diffusers", "torch "):
        assert word in text
    with pytest.raises(SystemExit):
        main(["inspect", str(demo_bundle), "--json"])
    manifest = Bundle.open(demo_bundle).manifest
    assert Manifest.from_json(capsys.readouterr().out, "here") == manifest


def test_inspect_refuses_what_is_no_bundle(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, message = call(capsys, "inspect", tmp_path)
    assert code == 1 and "no bundle" in message and message.count("\n") == 1
