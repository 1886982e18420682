"""Inputs that hypothesis generates for tests of more than one module."""

from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
# On these texts, parsers of JSON raise other errors than for bad syntax, for example `RecursionError`.
ODD_JSON = ["[" * 100_000, '{"a":' * 100_000, "\udcff", "9" * 5000]
