from collections.abc import Sequence
from math import log2

from hypothesis import given
from hypothesis import strategies as st

from anon_export.quantization.float_layers import find_sensitive


@given(st.lists(st.integers(0, 1000), max_size=200), st.floats(0.01, 0.5))
def test_the_scan_finds_every_layer_above_the_bound_and_no_other(errors: list[int], bound: float) -> None:
    total, tests = sum(errors) or 1, 0
    by_name = {f"layer {k}": error / total for k, error in enumerate(errors)}

    def share(names: Sequence[str]) -> float:
        nonlocal tests
        tests += 1
        return sum(by_name[name] for name in names)

    found = find_sensitive(list(by_name), share, bound)
    assert found == [name for name, error in by_name.items() if error > bound]
    assert tests <= 1 + 2 / bound * (1 + log2(len(errors) or 1)), "groups, not layers, are measured"
