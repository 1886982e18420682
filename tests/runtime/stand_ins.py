"""Engines for tests: those of a bundle with some of them replaced, and engines without a bundle."""

from collections.abc import Callable, Mapping

from anon_runtime.backends.engines import Engines
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.integrity import Inspection
from anon_runtime.errors import BundleError
from anon_runtime.types import Array, Arrays, Engine


class StandInEngines(Engines):
    """The engines of a bundle, some of which a test replaces by its own.

    Args:
        bundle: the bundle.
        replaced: the test's own engines by role.
        inspection: the inspection of the bundle's large files; None if nothing is left to hash.
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
        """Call a function in place of an engine, with the number of the call and the inputs.

        If the function returns None, the engine itself is called.
        """
        engine, calls = self[role], iter(range(10**6))

        def replaced(inputs: Mapping[str, Array]) -> Arrays:
            answer = interference(next(calls), inputs)
            return engine(inputs) if answer is None else answer

        self.replaced[role] = replaced


class MadeUpEngines(dict[str, Engine]):
    """Engines by role that belong to no bundle.

    Attributes:
        intact: whether `verify` accepts the engines.
        verified: the number of calls of `verify`.
        released: the roles that were released.
    """

    def __init__(self, **engines: Engine) -> None:
        super().__init__(engines)
        self.intact, self.verified = True, 0
        self.released: list[str] = []

    def require(self, *roles: str) -> None:
        """Check that there is an engine for each role."""
        if missing := set(roles) - set(self):
            raise BundleError("made-up engines", f"there is no {missing.pop()}", "make one up")

    def release(self, role: str) -> None:
        """Keep the engine, since engines that are made up take no memory, and note its role."""
        self.released.append(role)

    def verify(self) -> None:
        """Check that the engines are intact."""
        self.verified += 1
        if not self.intact:
            raise BundleError("made-up engines", "they are not the ones that were built", "build them again")
