"""The few calls of CUDA's runtime that TensorRT's engines need."""

from typing import Any

from ..errors import BackendError


class Cuda:
    """CUDA's runtime as one callable; an error code becomes a `BackendError`.

    Attributes:
        api: the bindings themselves, whose calls return the code.
    """

    def __init__(self) -> None:
        try:
            from cuda.bindings import runtime
        except ImportError:
            fix = "install `anon-engines[tensorrt]` or `anon-engines[tensorrt-rtx]`"
            raise BackendError("CUDA", "package cuda-bindings is not installed", fix) from None
        self.api: Any = runtime

    def __call__(self, name: str, *arguments: Any) -> Any:
        """Call ``cudaNAME``; returns its one result, or None."""
        code, *results = getattr(self.api, f"cuda{name}")(*arguments)
        if code != self.api.cudaError_t.cudaSuccess:
            reason = self.api.cudaGetErrorString(code)[1].decode()
            fix = "check the driver with `nvidia-smi`, or use a bundle for another target"
            if code == self.api.cudaError_t.cudaErrorMemoryAllocation:
                fix = "use a smaller `batch_size`, or a GPU with more memory that is free"
            raise BackendError(f"CUDA's {name}", reason, fix)
        return results[0] if results else None

    def architecture(self) -> str:
        """Of the first GPU, such as ``sm_89``."""
        kinds = self.api.cudaDeviceAttr
        major = self("DeviceGetAttribute", kinds.cudaDevAttrComputeCapabilityMajor, 0)
        minor = self("DeviceGetAttribute", kinds.cudaDevAttrComputeCapabilityMinor, 0)
        return f"sm_{major}{minor}"
