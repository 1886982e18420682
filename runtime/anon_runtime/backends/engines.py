"""The engines of a bundle: each one is loaded at its first use, and all of them stay loaded until they are closed."""

import logging
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Self

from ..bundle.bundle import Bundle
from ..bundle.integrity import Inspection
from ..errors import BackendError, UsageError
from ..types import Engine, check_integer
from .base import is_large, load_engine, physical_cores, resolve_device
from .processor import multiplies_bf16, multiplies_int8

log = logging.getLogger(__name__)


class Engines:
    """The engines of a bundle by role, on one device.

    Examples:
        >>> with Engines.load("engines/demo") as engines:  # doctest: +SKIP
        ...     engines["text_encoder"]({"input_ids": tokens})

    Args:
        bundle: the bundle that holds the engines.
        device: ``cpu``, ``cuda`` or ``tensorrt``; None means the best one that the installed library supports.
        threads: the number of threads of an engine on the CPU, 1 or more; None means one for each physical core. The
            last digits of the results depend on it.
        inspection: the inspection of the bundle's large files; None if nothing is left to hash.
        replaced: engines that are used for some roles in place of the bundle's.

    Raises:
        UsageError: the number of threads is not a whole number of at least 1.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str | None = None,
        threads: int | None = None,
        inspection: Inspection | None = None,
        replaced: Mapping[str, Engine] | None = None,
    ) -> None:
        self.bundle, self._device, self._inspection = bundle, device, inspection
        self._replaced: Mapping[str, Engine] = {} if replaced is None else replaced
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
        """Open a bundle and check its files.

        Large files are hashed while the engines are loaded and run; `verify` waits until this is done.

        Args:
            path: the folder of the bundle.
            device: see the class.
            threads: see the class.
            checksum: whether to compare the sha256 of the files as well as their sizes.

        Raises:
            BundleError: there is no bundle, or it is damaged.
            UsageError: the number of threads is not a whole number of at least 1.
        """
        bundle = Bundle.read(Path(path))
        return cls(bundle, device=device, threads=threads, inspection=bundle.check(checksum=checksum))

    @cached_property
    def device(self) -> str:
        """The device that the engines run on: ``cpu``, ``cuda`` or ``tensorrt``.

        Raises:
            BackendError: the bundle's target has no such device, or its library is not installed.
        """
        return resolve_device(self.bundle.manifest.target, self._device)

    @property
    def threads(self) -> int | None:
        """The number of threads of an engine on the CPU; None on a GPU."""
        return (self._threads or physical_cores()) if self.device == "cpu" else None

    def require(self, *roles: str) -> None:
        """Check that the bundle has engines for some roles, and that its target has the device.

        Args:
            *roles: the roles, such as ``unet``.

        Raises:
            BundleError: the bundle has no engine for one of the roles.
            BackendError: see `device`.
        """
        for role in roles:
            if role not in self._replaced:
                self.bundle.spec(role)
        _ = self.device

    def __getitem__(self, role: str) -> Engine:
        """Return the engine of a role; it is loaded once, and roles that share a file share the engine.

        Raises:
            BundleError: the bundle has no engine for this role.
            BackendError: the engine cannot be loaded, or the engines were closed.
        """
        if self._closed:
            raise BackendError(f"the {role} engine", "the engines were closed", "load them again")
        if role in self._replaced:
            return self._replaced[role]
        path = self.bundle.engine_path(role)
        if path not in self._loaded:
            manifest, spec = self.bundle.manifest, self.bundle.spec(role)
            if manifest.target == "onnxruntime" and self.device != "cpu" and role == "unet":
                fix = "build one with `anon-export build --target cuda`"
                log.warning("bundle %s is made for processors, and slow on a GPU; %s", self.bundle.path, fix)
            if spec.precision in ("int8", "int8-bf16") and not multiplies_int8():
                log.warning("this processor has no instructions for int8 (VNNI): the %s engine will be slow", role)
            if spec.precision.endswith("bf16") and not multiplies_bf16():
                why = "this processor has no instructions for bf16: the %s engine uses fp32 in its place, and is slower"
                log.warning(why, role)
            self._loaded[path] = load_engine(
                manifest.target, path, self.device, manifest.gpu, self.threads, spec.key, spec.precision
            )
        return self._loaded[path]

    def release(self, role: str) -> None:
        """Release the memory of a large engine on the CPU; it is loaded again at its next use.

        Engines on a GPU and small ones stay loaded, because loading them again takes more time than it is worth.
        """
        if role in self._replaced or self.device != "cpu":
            return
        path = self.bundle.engine_path(role)
        if is_large(path):
            self._loaded.pop(path, None)

    def verify(self) -> None:
        """Wait until all files are hashed.

        Raises:
            BundleError: a file is not the one that was built.
        """
        if self._inspection is not None:
            self._inspection.finish()

    def close(self) -> None:
        """Release the memory of all engines; after this, no engine can be loaded any more."""
        self._closed = True
        self._loaded.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
