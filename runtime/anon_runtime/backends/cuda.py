"""The calls of the CUDA runtime that TensorRT engines need."""

from typing import Any

from ..errors import BackendError


class Cuda:
    """The CUDA runtime as a callable that raises a `BackendError` for an error code.

    Attributes:
        api: the module ``cuda.bindings.runtime``, whose functions return error codes.

    Raises:
        BackendError: the package cuda-bindings is not installed.
    """

    def __init__(self) -> None:
        try:
            from cuda.bindings import runtime
        except ImportError:
            fix = "install `anon-engines[tensorrt]` or `anon-engines[tensorrt-rtx]`"
            raise BackendError("CUDA", "package cuda-bindings is not installed", fix) from None
        self.api: Any = runtime

    def __call__(self, name: str, *arguments: Any) -> Any:
        """Call the function ``cudaNAME`` and return its result.

        Args:
            name: the name of the function without ``cuda``, such as ``Malloc``.
            *arguments: the arguments of the function.

        Returns:
            The only result of the function; None if it has none.

        Raises:
            BackendError: the function returned an error code.
        """
        code, *results = getattr(self.api, f"cuda{name}")(*arguments)
        if code != self.api.cudaError_t.cudaSuccess:
            reason = self.api.cudaGetErrorString(code)[1].decode()
            fix = "check the driver with `nvidia-smi`, or use a bundle for another target"
            if code == self.api.cudaError_t.cudaErrorMemoryAllocation:
                fix = "use a smaller `batch_size`, or a GPU with more memory that is free"
            raise BackendError(f"CUDA's {name}", reason, fix)
        return results[0] if results else None

    def architecture(self) -> str:
        """Return the architecture of the first GPU, such as ``sm_89``.

        Raises:
            BackendError: there is no GPU, or the driver does not work.
        """
        kinds = self.api.cudaDeviceAttr
        major = self("DeviceGetAttribute", kinds.cudaDevAttrComputeCapabilityMajor, 0)
        minor = self("DeviceGetAttribute", kinds.cudaDevAttrComputeCapabilityMinor, 0)
        return f"sm_{major}{minor}"
