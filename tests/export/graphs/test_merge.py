from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from anon_export.graphs.export import export_graph
from anon_export.graphs.merge import merge_graphs


class TwoLayers(torch.nn.Module):
    def __init__(self, first: torch.nn.Module, second: torch.nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.second(torch.relu(self.first(image)))
        return result


@pytest.mark.parametrize("same", [True, False])
def test_equal_layers_are_shared(tmp_path: Path, same: bool) -> None:
    torch.manual_seed(0)
    trunks = [torch.nn.Conv2d(3, 8, 3) for _ in range(2)]
    nets = [TwoLayers(trunks[0 if same else k], torch.nn.Conv2d(8, 2 + k, 3)) for k in range(2)]
    image = torch.randn(2, 3, 16, 16)
    for k, net in enumerate(nets):
        export_graph(net, {"image": image}, {"image": {0: "batch"}}, (f"out{k}",), tmp_path / f"{k}.onnx")
    loaded = [onnx.load(tmp_path / f"{k}.onnx") for k in range(2)]
    merged = merge_graphs(*loaded, at_least=("Conv", 1))
    if not same:
        assert merged is None
        return
    assert merged is not None
    assert [node.op_type for node in merged.graph.node].count("Conv") == 3, "one trunk and two heads"
    onnx.checker.check_model(merged, full_check=True)
    session = onnxruntime.InferenceSession(merged.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = session.run(["out0", "out1"], {"image": image.numpy()})
    for output, net in zip(outputs, nets, strict=True):
        np.testing.assert_allclose(output, net(image).detach().numpy(), atol=1e-5)
