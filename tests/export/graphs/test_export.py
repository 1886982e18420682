from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from anon_export.graphs import export


def test_large_weights_go_beside_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "MAX_INLINE_BYTES", 10_000)
    net, image = torch.nn.Sequential(torch.nn.Conv2d(3, 600, 3), torch.nn.ReLU()), torch.randn(1, 3, 8, 8)
    path = tmp_path / "net" / "model.onnx"
    spec = export.export_graph(net, {"input": image}, {"input": {0: "batch"}}, ("out",), path)
    assert spec.inputs[0].shape == ("batch", 3, 8, 8)
    assert sorted(p.name for p in path.parent.iterdir()) == ["check.npz", "model.onnx", "model.onnx.data"]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"input": image.numpy()})[0], net(image).detach().numpy(), atol=1e-5)
