import json
from dataclasses import replace
from pathlib import Path

import pytest

from anon_export.console import Progress, describe_choice, describe_damage, show_build, show_bundle
from anon_export.faces import WEIGHTS
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.manifest import Choice, Damage
from anon_runtime.faces.detection import SECOND_DETECTOR_ROLE


def test_bars_of_components(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with Progress(quiet=False) as progress:
        for state in ("exporting", "converting"):
            progress.report("unet", state)
        progress.report("vae_decoder", "unchanged")
    shown = capsys.readouterr().err
    assert "unet" in shown
    assert "converting" in shown
    assert "vae_decoder" in shown
    assert progress.states["vae_decoder"] == "unchanged"
    assert isinstance(progress.states["unet"], float)


DAMAGE = Damage(16, ((925.0, 0.004), (400.0, 0.02), (16.0, 0.05)), 31.46, 16.7, 0.986, 1.0, ("conv",))


def test_what_a_quantized_unet_costs_is_shown(demo_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert describe_damage(DAMAGE) == (
        "16 images 31.5 dB from exact ones (worst 16.7), 98.6 % of attributes the same; "
        "outputs off by 0.4 % at the first step, 5.0 % at the last"
    )
    assert "attributes" not in describe_damage(replace(DAMAGE, agreement=None))
    exact = Bundle.read(demo_bundle)
    quantized = replace(exact, manifest=replace(exact.manifest, damage=DAMAGE))
    for bundle, shown in ((exact, False), (quantized, True)):
        show_build(bundle, {}, as_json=True, quiet=False)
        captured = capsys.readouterr()
        assert ("damage" in json.loads(captured.out)) == ("the UNet in fp32: 16 images" in captured.err) == shown
        show_bundle(bundle.manifest, as_json=False)
        assert ("damage:     16 images" in capsys.readouterr().out) == shown


def test_how_a_target_was_chosen_is_shown(demo_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    choice = Choice("openvino", "a processor, openvino 1.0", {"onnxruntime fp32": 0.0214, "openvino fp32": 0.012})
    assert describe_choice(choice) == (
        "openvino, chosen by the time of a part of the UNet: onnxruntime fp32 21 ms, openvino fp32 12 ms "
        "(a processor, openvino 1.0)"
    )
    named = Bundle.read(demo_bundle)
    chosen = replace(named, manifest=replace(named.manifest, choice=choice))
    for bundle, shown in ((named, False), (chosen, True)):
        show_build(bundle, {}, as_json=True, quiet=False)
        captured = capsys.readouterr()
        assert ("choice" in json.loads(captured.out)) == ("the target: openvino, chosen" in captured.err) == shown
        show_bundle(bundle.manifest, as_json=False)
        assert ("target:     openvino, chosen" in capsys.readouterr().out) == shown


def test_a_bundle_with_one_face_detector_says_what_a_second_one_needs(
    demo_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = Bundle.read(demo_bundle)
    engines = one.manifest.engines
    detector = replace(engines["face_detector"], signature="retinaface")
    two = replace(one, manifest=replace(one.manifest, engines=engines | {SECOND_DETECTOR_ROLE: detector}))
    faceless = {role: spec for role, spec in engines.items() if not role.startswith("face")}
    none = replace(one, manifest=replace(one.manifest, engines=faceless))
    for bundle, said in ((one, True), (two, False), (none, False)):
        show_build(bundle, {}, as_json=False, quiet=False)
        noted = capsys.readouterr().err
        needs = f"package facer and its file {WEIGHTS['detector'].names[0]}"
        assert (f"no second face detector: it needs {needs}\n" in noted) == said
