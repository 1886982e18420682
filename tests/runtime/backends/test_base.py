import os
from pathlib import Path

import numpy as np
import pytest

from anon_runtime.backends.base import load_engine, physical_cores
from anon_runtime.errors import BackendError


@pytest.mark.usefixtures("export_packages")
@pytest.mark.parametrize("target", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.packages)])
@pytest.mark.parametrize("location", ["../secret", "/etc/passwd"])
def test_weights_cannot_be_read_from_outside(tmp_path: Path, target: str, location: str) -> None:
    """A graph that names a file outside of its folder as its weights is refused, and its content is not shown."""
    from onnx import TensorProto, helper

    (tmp_path / "secret").write_bytes(np.arange(4, dtype=np.float32).tobytes() * 100)
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, "offset": "0", "length": "16"}.items():
        tensor.external_data.add(key=key, value=value)
    shape = helper.make_tensor_value_info
    node = helper.make_node("Add", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", [shape("x", 1, [4])], [shape("y", 1, [4])], [tensor])
    path = tmp_path / "bundle" / "model.onnx"
    path.parent.mkdir()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BackendError):
        load_engine(target, path)({"x": np.zeros(4, np.float32)})


def test_hardware_threads_of_one_core_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    siblings = {"cpu0": "0,2", "cpu1": "1,3", "cpu2": "0,2", "cpu3": "1,3"}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 1, 2, 3})
    monkeypatch.setattr(Path, "read_text", lambda path: siblings[path.parent.parent.name])
    assert physical_cores() == 2


def test_every_processor_is_a_core_where_the_system_does_not_describe_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_path: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 1, 2})
    monkeypatch.setattr(Path, "read_text", missing)
    assert physical_cores() == 3
