"""The engines of a bundle: loaded when they are first asked for, on one device, until they are closed."""

import os
from functools import cached_property
from pathlib import Path
from typing import Self

from ..bundle.bundle import Bundle
from ..bundle.integrity import Inspection
from ..errors import BackendError, UsageError
from ..types import Engine, check_integer
from .base import load_engine, physical_cores, resolve_device


class Engines:
    """Engines by role.

    Examples:
        >>> with Engines.load("engines/demo") as engines:  # doctest: +SKIP
        ...     engines["text_encoder"]({"input_ids": tokens})

    Args:
        bundle: whose engines they are.
        device: ``cpu``, ``cuda`` or ``tensorrt``; None is the best one that the installed library was made for.
        threads: of an engine on the CPU, 1 or more; None is one for each core. A result depends on it in its last
            digit.
        inspection: of the bundle's large files, if it is still at work.

    Raises:
        UsageError: the number of threads makes no sense.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str | None = None,
        threads: int | None = None,
        inspection: Inspection | None = None,
    ) -> None:
        self.bundle, self._device, self._inspection = bundle, device, inspection
        self._threads = None if threads is None else check_integer("threads", threads)
        if self._threads is not None and self._threads < 1:
            raise UsageError(f"{threads} threads", "engines need at least one", "use 1 or more")
        self._loaded: dict[Path, Engine] = {}
        self._closed = False

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        device: str | None = None,
        threads: int | None = None,
        checksum: bool = True,
    ) -> Self:
        """Open a bundle and check its files; large ones are hashed while engines start, and `verify` waits for it.

        Args:
            path: of the bundle.
            device, threads: see the class.
            checksum: compare the files' sha256, or only their sizes.

        Raises:
            BundleError: there is no bundle, or it is damaged.
        """
        bundle = Bundle.read(Path(path))
        return cls(bundle, device=device, threads=threads, inspection=bundle.check(checksum=checksum))

    @cached_property
    def device(self) -> str:
        """What the engines run on: ``cpu``, ``cuda`` or ``tensorrt``.

        Raises:
            BackendError: the bundle's target has no such device, or its library is not installed.
        """
        return resolve_device(self.bundle.manifest.target, self._device)

    @property
    def threads(self) -> int | None:
        """Of an engine on the CPU; None on a GPU."""
        return (self._threads or physical_cores()) if self.device == "cpu" else None

    def require(self, *roles: str) -> None:
        """Make sure that the bundle has engines for these roles, and that its device is there.

        Raises:
            BundleError: it lacks one.
            BackendError: see `device`.
        """
        for role in roles:
            self.bundle.spec(role)
        _ = self.device

    def __getitem__(self, role: str) -> Engine:
        """The engine of a role, loaded once; roles that share a file share the engine.

        Raises:
            BundleError: the bundle has none.
            BackendError: it cannot be loaded.
        """
        if self._closed:
            raise BackendError(f"the {role} engine", "the engines were closed", "load them again")
        path = self.bundle.engine_path(role)
        if path not in self._loaded:
            manifest, key = self.bundle.manifest, self.bundle.spec(role).key
            self._loaded[path] = load_engine(manifest.target, path, self.device, manifest.gpu, self.threads, key)
        return self._loaded[path]

    def verify(self) -> None:
        """Wait until all files were hashed.

        Raises:
            BundleError: a file is not the one that was built.
        """
        if self._inspection is not None:
            self._inspection.finish()

    def close(self) -> None:
        """Give back the memory of all engines."""
        self._closed = True
        self._loaded.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
