"""The calls of the CUDA runtime that TensorRT engines need, and the memory of the GPU."""

import weakref
from typing import Any

import numpy as np

from ..errors import BackendError
from ..types import Array
from .buffers import Buffer


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


class CudaMemory:
    """The memory of the first GPU; see `Memory`.

    Args:
        cuda: the CUDA runtime.
        stream: the CUDA stream that copies are made on.
    """

    def __init__(self, cuda: Cuda, stream: Any) -> None:
        self._cuda, self._stream = cuda, stream

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Buffer:
        """See `Memory.empty`."""
        kind = np.dtype(dtype)
        address = int(self._cuda("Malloc", max(int(np.prod(shape)) * kind.itemsize, 1)))
        return Buffer(address, shape, kind, _Block(self._cuda, address))

    def write(self, buffer: Buffer, array: Array) -> None:
        """See `Memory.write`."""
        source = np.asarray(array, buffer.dtype, order="C")
        kind = self._cuda.api.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._cuda("MemcpyAsync", buffer.address, source.ctypes.data, source.nbytes, kind, self._stream)
        self._cuda("StreamSynchronize", self._stream)  # until then, the array must not change

    def read(self, buffer: Buffer) -> Array:
        """See `Memory.read`."""
        array: Array = np.empty(buffer.shape, buffer.dtype)
        kind = self._cuda.api.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._cuda("MemcpyAsync", array.ctypes.data, buffer.address, array.nbytes, kind, self._stream)
        self._cuda("StreamSynchronize", self._stream)
        return array


class _Block:
    """A block of the GPU's memory, which is freed with this object; at the end of a process, CUDA frees all of them."""

    def __init__(self, cuda: Cuda, address: int) -> None:
        weakref.finalize(self, cuda.api.cudaFree, address).atexit = False
