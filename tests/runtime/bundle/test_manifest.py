import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.identity import ARCFACE_TEMPLATE, IdentitySpec
from anon_runtime.bundle.manifest import MANIFEST, Choice, Damage, LevelCost, LevelCosts, Manifest, parse_calibration
from anon_runtime.errors import BundleError
from tests.runtime.guard.calibrations import calibration
from tests.runtime.strategies import JSON, ODD_JSON


def test_manifest_survives_a_round_trip(demo_bundle: Path) -> None:
    manifest = Bundle.open(demo_bundle).manifest
    assert Manifest.from_json(manifest.to_json(), "here") == manifest


def test_what_a_quantized_unet_costs_survives_a_round_trip(demo_bundle: Path) -> None:
    damage = Damage(16, ((925.0, 0.004), (16.0, 0.05)), 31.5, 16.7, None, 1.0, ("first", "last"))
    manifest = replace(Bundle.open(demo_bundle).manifest, damage=damage)
    assert Manifest.from_json(manifest.to_json(), "here") == manifest
    good = json.loads(manifest.to_json())
    for field, bad in (("rms", [[1.0]]), ("rms", [["a", 1.0]]), ("psnr", None), ("float_layers", [1])):
        with pytest.raises(BundleError, match="lacks or garbles a field"):
            Manifest.from_json(json.dumps(good | {"damage": good["damage"] | {field: bad}}), "here")


def test_how_a_target_was_chosen_survives_a_round_trip(demo_bundle: Path) -> None:
    choice = Choice("openvino", "a processor", {"onnxruntime fp32": 0.02, "openvino fp32": 0.01})
    manifest = replace(Bundle.open(demo_bundle).manifest, choice=choice)
    assert Manifest.from_json(manifest.to_json(), "here") == manifest
    good = json.loads(manifest.to_json())
    for field, bad in (("target", 1), ("machine", None), ("seconds", [1.0]), ("seconds", {"a": "b"})):
        with pytest.raises(BundleError, match="lacks or garbles a field"):
            Manifest.from_json(json.dumps(good | {"choice": good["choice"] | {field: bad}}), "here")


def test_the_price_of_fast_mode_survives_a_round_trip(demo_bundle: Path) -> None:
    cost = LevelCost(3.1, 20.5, 0.9, None)
    manifest = replace(Bundle.open(demo_bundle).manifest, levels=LevelCosts("a processor", 16, {"2": cost}, cost))
    assert Manifest.from_json(manifest.to_json(), "here") == manifest
    good = json.loads(manifest.to_json())
    for field, bad in (("machine", 1), ("images", "16"), ("levels", [cost]), ("levels", {"2": {}}), ("other_seeds", 1)):
        with pytest.raises(BundleError, match="lacks or garbles a field"):
            Manifest.from_json(json.dumps(good | {"levels": good["levels"] | {field: bad}}, default=vars), "here")


def test_a_manifest_of_0_2_is_read_with_a_note(caplog: pytest.LogCaptureFixture) -> None:
    """The file was written by `anon-export build demo --deep-reuse` of anon-engines 0.2.0."""
    text = Path(__file__).with_name("bundle-0.2.json").read_text()
    manifest = Manifest.from_json(text, "old/bundle.json")
    assert "old/bundle.json is of anon-engines 0.2; build it again" in caplog.text
    old = json.loads(text)
    assert {"unet", "unet_cached", "face_detector"} <= manifest.engines.keys()
    assert manifest.engines["unet_cached"].signature == "unet_cached"
    assert manifest.engines["face_detector"].signature == old["engines"]["face_detector"]["contract"] == "centerface"
    assert manifest.verification is not None
    assert manifest.verification.image_psnr == old["verification"]["picture_psnr"]
    assert manifest.verification.engines.keys() == manifest.engines.keys()
    assert Manifest.from_json(manifest.to_json(), "here") == manifest
    del old["engines"]["unet"]["contract"]
    with pytest.raises(BundleError, match="lacks or garbles a field"):
        Manifest.from_json(json.dumps(old), "here")


def test_garbled_manifests_are_refused(own_bundle: Path) -> None:
    path = own_bundle / MANIFEST
    good = json.loads(path.read_text())
    bad = {
        "not json": "{",
        "a list": "[]",
        "schema version": json.dumps(good | {"schema_version": 99}),
        "lacks a field": json.dumps({k: v for k, v in good.items() if k != "generator"}),
        "escapes": json.dumps(good | {"files": {"../secret": {"sha256": "", "size": 0}}}),
        "null": json.dumps(good | {"engines": None}),
        "no height": json.dumps(good | {"generator": good["generator"] | {"height": 0}}),
        "no sampler": json.dumps(good | {"defaults": good["defaults"] | {"sampler": "euler"}}),
    }
    for text in bad.values():
        path.write_text(text)
        with pytest.raises(BundleError) as caught:
            Bundle.open(own_bundle)
        assert "\n" not in str(caught.value)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a JSON document."""
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A JSON document with another value at a path."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_manifest_is_read_or_refused(demo_bundle: Path, data: st.DataObject) -> None:
    good = json.loads((demo_bundle / MANIFEST).read_text())
    text = json.dumps(replaced(good, data.draw(st.sampled_from(places(good))), data.draw(JSON)))
    refused = None
    try:
        manifest = Manifest.from_json(text, "x")
    except BundleError as error:
        refused = error
    if refused is None:
        assert all(size > 0 for size in manifest.generator.latent_shape[:1])
        assert Manifest.from_json(manifest.to_json(), "x") == manifest or "NaN" in text
    else:
        assert "\n" not in refused.what


@pytest.mark.parametrize("text", ODD_JSON)
def test_json_that_breaks_parsers_is_refused(text: str) -> None:
    with pytest.raises(BundleError):
        Manifest.from_json(text, "x")


@pytest.mark.parametrize("field", [("tables", "path"), ("tokenizer",), ("engines", "unet", "path")])
@pytest.mark.parametrize("path", ["/etc/passwd", "../other/model.onnx", "unet/../../x"])
def test_no_path_of_a_manifest_leads_out(demo_bundle: Path, field: tuple[str, ...], path: str) -> None:
    good = json.loads((demo_bundle / MANIFEST).read_text())
    with pytest.raises(BundleError, match="leads out of the bundle"):
        Manifest.from_json(json.dumps(replaced(good, field, path)), "x")


def test_a_calibration_survives_a_round_trip(demo_bundle: Path) -> None:
    spec = IdentitySpec("blocks", 112, ARCFACE_TEMPLATE, calibration())
    assert parse_calibration(json.loads(json.dumps(asdict(calibration())))) == calibration()
    assert parse_calibration(None) is None
    for identity in (spec, replace(spec, calibration=None), None):
        manifest = replace(Bundle.read(demo_bundle).manifest, identity=identity)
        assert Manifest.from_json(manifest.to_json(), "here").identity == identity


def test_a_bundle_of_0_3_recognizes_nobody(demo_bundle: Path) -> None:
    data = json.loads((demo_bundle / MANIFEST).read_text())
    del data["identity"]
    assert Manifest.from_json(json.dumps(data), "here").identity is None


@pytest.mark.parametrize(
    "garbled",
    [
        {"rates": "abc"},
        {"rates": []},
        {"rates": [None, 0.1, 0.01, 0.001]},
        {"rates": [0.1, 0.5, 0.01, 0.001]},
        {"rates": [0.5, 0.5, 0.01, 0.001]},
        {"rates": [1.5, 0.1, 0.01, 0.001]},
        {"rates": [0.5, 0.1, 0.01, 0]},
        {"rates": [float("nan"), 0.1, 0.01, 0.001]},
        {"thresholds": [0.2, 0.4, 0.6]},
        {"thresholds": [0.2, 0.4, 0.6, float("inf")]},
        {"thresholds": [True, 0.4, 0.6, 0.7]},
        {"histogram": [1.5]},
        {"pairs": 0},
        {"people": "many"},
        {"resampled": []},
        {"resampled": [{}]},
        {"tail": None},
        {"tail": {"start": 0.4, "rate": 0.0, "shape": 0.1, "scale": 0.1}},
        {"tail": {"start": 0.4, "rate": 0.1, "shape": float("nan"), "scale": 0.1}},
    ],
)
def test_a_calibration_without_thresholds_is_refused(demo_bundle: Path, garbled: dict[str, Any]) -> None:
    spec = IdentitySpec("blocks", 112, ARCFACE_TEMPLATE, calibration())
    manifest = asdict(replace(Bundle.read(demo_bundle).manifest, identity=spec))
    manifest["identity"]["calibration"] |= garbled
    with pytest.raises(BundleError, match="lacks or garbles a field"):
        Manifest.from_json(json.dumps(manifest), "here")


@pytest.mark.parametrize("garbled", [{"size": 0}, {"template": [[0, 0]] * 4}, {"template": [[0]] * 5}, {"name": None}])
def test_a_face_recognition_network_without_its_input_is_refused(demo_bundle: Path, garbled: dict[str, Any]) -> None:
    spec = IdentitySpec("blocks", 112, ARCFACE_TEMPLATE)
    manifest = asdict(replace(Bundle.read(demo_bundle).manifest, identity=spec))
    manifest["identity"] |= garbled
    with pytest.raises(BundleError, match="lacks or garbles a field"):
        Manifest.from_json(json.dumps(manifest), "here")
