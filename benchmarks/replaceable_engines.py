"""A bundle's engines of which some are replaced, to measure them or to share networks with another library.

This module imports nothing but the runtime, so that it can be used where start-up time and memory are measured.
"""

from functools import cached_property

from anon_runtime import Anonymizer
from anon_runtime.backends.base import Engine


class ReplaceableEngines(Anonymizer):
    """An anonymizer whose engines can be replaced."""

    @cached_property
    def replaced(self) -> dict[str, Engine]:
        """The engines by role that are used in place of the bundle's."""
        return {}

    def engine(self, role: str) -> Engine:
        """The engine of a role: the one in `replaced`, or the bundle's."""
        return self.replaced.get(role) or super().engine(role)
