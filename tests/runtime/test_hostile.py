"""Files made by someone who means harm: bundles that reach out of their folder, parsers that choke."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anon_runtime.backends.base import load_engine
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.integrity import sha256
from anon_runtime.bundle.manifest import MANIFEST, Manifest
from anon_runtime.diffusion.schedule import load_schedule
from anon_runtime.errors import AnonError, BackendError, BundleError, UsageError
from anon_runtime.faces.attributes import load_attributes

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON document."""
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
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


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "\udcff", "9" * 5000])
def test_json_that_breaks_parsers(tmp_path: Path, text: str) -> None:
    with pytest.raises(BundleError):
        Manifest.from_json(text, "x")
    (tmp_path / "a.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UsageError):
        load_attributes(tmp_path / "a.json")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        JSON.map(lambda v: json.dumps(v).encode()),
        st.binary(max_size=50),
        st.fixed_dictionaries({"Ethnic": JSON, "Age": JSON, "Male": JSON}).map(lambda v: json.dumps(v).encode()),
    )
)
def test_any_attribute_file_is_read_or_refused(tmp_path: Path, content: bytes) -> None:  # fmt: skip
    (tmp_path / "a.json").write_bytes(content)
    refused = None
    try:
        found = load_attributes(tmp_path / "a.json")
    except UsageError as error:
        refused = error
    if refused is None:
        assert isinstance(found["Age"], int)
        assert 0 <= float(found["Male"]) <= 1
    else:
        assert str(tmp_path) in refused.what


@pytest.mark.parametrize("field", [("tables", "path"), ("tokenizer",), ("engines", "unet", "path")])
@pytest.mark.parametrize("path", ["/etc/passwd", "../other/model.onnx", "unet/../../x"])
def test_no_path_of_a_manifest_leads_out(demo_bundle: Path, field: tuple[str, ...], path: str) -> None:
    good = json.loads((demo_bundle / MANIFEST).read_text())
    with pytest.raises(BundleError, match="leads out of the bundle"):
        Manifest.from_json(json.dumps(replaced(good, field, path)), "x")


@pytest.mark.usefixtures("export_packages")
@pytest.mark.parametrize("target", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.packages)])
@pytest.mark.parametrize("location", ["../secret", "/etc/passwd"])
def test_weights_cannot_be_read_from_outside(tmp_path: Path, target: str, location: str) -> None:
    """A graph that names a file outside its folder as its weights is refused, and does not show what is in it."""
    from onnx import TensorProto, helper

    (tmp_path / "secret").write_bytes(np.arange(4, dtype=np.float32).tobytes() * 100)
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, "offset": "0", "length": "16"}.items():
        tensor.external_data.add(key=key, value=value)
    shape = helper.make_tensor_value_info
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [shape("x", 1, [4])],
                              [shape("y", 1, [4])], [tensor])  # fmt: skip
    path = tmp_path / "bundle" / "model.onnx"
    path.parent.mkdir()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BackendError):
        load_engine(target, path)({"x": np.zeros(4, np.float32)})


class Harmful:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("harm"),)


def test_no_pickle_is_opened(own_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tables = own_bundle / "scheduler" / "tables.npz"
    for content in (pickle.dumps(Harmful()), b"", b"PK\x03\x04" + bytes(100), tables.read_bytes()[:500]):
        tables.write_bytes(content)
        with pytest.raises(BundleError, match="not a table file"):
            load_schedule(tables, "dpmpp_sde", 15)
    arrays: dict[str, Any] = {"dpmpp_sde.timesteps": np.array([Harmful()], dtype=object)}
    np.savez(tables, **arrays)
    with pytest.raises(BundleError, match="not a table file"):
        load_schedule(tables, "dpmpp_sde", 15)
    assert not (tmp_path / "harm").exists()


@pytest.mark.usefixtures("export_packages")
def test_a_bundle_holds_no_pickle(demo_bundle: Path) -> None:
    import onnx

    for path in demo_bundle.rglob("*"):
        if path.is_file():
            assert path.suffix in {".onnx", ".data", ".json", ".npz", ".txt", ".png", ".md"}, path
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                assert all(arrays[name].dtype.kind in "fiu" for name in arrays.files)
        if path.suffix == ".onnx":
            onnx.checker.check_model(onnx.load(path, load_external_data=False))


def test_a_tokenizer_that_is_none(own_bundle: Path) -> None:
    from anon_runtime import Anonymizer, Request

    bundle = Bundle.read(own_bundle)
    for name in (
        (own_bundle / bundle.manifest.tokenizer).iterdir()
        if (own_bundle / bundle.manifest.tokenizer).is_dir()
        else [own_bundle / bundle.manifest.tokenizer]
    ):
        name.write_bytes(b'{"a": 1}')
        edited = json.loads((own_bundle / MANIFEST).read_text())
        edited["files"][str(name.relative_to(own_bundle))] = {"sha256": sha256(name), "size": name.stat().st_size}
        (own_bundle / MANIFEST).write_text(json.dumps(edited))
    with pytest.raises(AnonError):
        Anonymizer.load(own_bundle).generate([Request("portrait of a woman")])
