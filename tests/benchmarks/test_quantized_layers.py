"""The forms of a quantized layer compute nearly the same; how fast they are is not tested."""

import pytest

pytestmark = pytest.mark.packages


def test_each_form_is_measured_and_close_to_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nncf")
    from benchmarks import quantized_layers as own

    small = {own.CONVOLUTION: ((2, 64, 16, 16), (64, 64, 3, 3)), own.LINEAR: ((2, 16, 128), (128, 256))}
    monkeypatch.setattr(own, "SHAPES", small)
    for name, only in ((own.CONVOLUTION, "Winograd's form"), (own.LINEAR, "MatMulNBits")):
        found = own.measure(name, 2)
        assert len(found) == 5
        assert sum(only in form for form in found) == 1
        for form, (seconds, error) in found.items():
            assert len(seconds) == 2
            assert min(seconds) > 0
            low, high = (1e-3, 5e-2) if "int8" in form or "8 bits" in form else (0.0, 1e-5)
            assert low <= error < high
