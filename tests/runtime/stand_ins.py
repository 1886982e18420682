"""Engines of a bundle of which a test may replace some."""

from collections.abc import Callable, Mapping

from anon_runtime.backends.engines import Engines
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.integrity import Inspection
from anon_runtime.types import Array, Arrays, Engine


class StandInEngines(Engines):
    """A bundle's engines; those in ``replaced`` are a test's own.

    Args:
        bundle: whose engines the others are.
        replaced: by role.
    """

    def __init__(
        self,
        bundle: Bundle,
        replaced: Mapping[str, Engine] | None = None,
        *,
        inspection: Inspection | None = None,
    ) -> None:
        self.replaced = dict(replaced or {})
        super().__init__(bundle, inspection=inspection, replaced=self.replaced)

    def interfere(self, role: str, interference: Callable[[int, Mapping[str, Array]], Arrays | None]) -> None:
        """Let a function answer in an engine's place, from the number of its call and its inputs; None from it leaves
        the answer to the engine.
        """
        engine, calls = self[role], iter(range(10**6))

        def replaced(inputs: Mapping[str, Array]) -> Arrays:
            answer = interference(next(calls), inputs)
            return engine(inputs) if answer is None else answer

        self.replaced[role] = replaced
