"""Inputs that hypothesis generates for tests of more than one module."""

from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
# Texts that are refused by parsers of JSON in other ways than by a syntax error, such as too deep a recursion.
ODD_JSON = ["[" * 100_000, '{"a":' * 100_000, "\udcff", "9" * 5000]
