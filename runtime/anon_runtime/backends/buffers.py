"""Arrays that stay in the memory of a device between the calls of engines."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from ..bundle.manifest import TensorSpec
from ..types import Array, Engine

Launch = Callable[[], None]  # runs an engine once, on the buffers that it is bound to


@dataclass(frozen=True)
class Buffer:
    """An array in the memory of a device, or some rows of one, in C order.

    Attributes:
        address: the place of its first byte in the memory of the device.
        shape: its shape.
        dtype: its dtype.
        owner: the object that frees the memory when nothing refers to it any more.
    """

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: object

    def rows(self, start: int, stop: int) -> "Buffer":
        """Return the rows ``start .. stop - 1`` along the first dimension; they share the memory."""
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        return replace(self, address=self.address + start * row, shape=(stop - start, *self.shape[1:]))

    def reshape(self, *shape: int) -> "Buffer":
        """Return the same memory with another shape of the same size."""
        return replace(self, shape=shape)


class Memory(Protocol):
    """The interface of a device's memory."""

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Buffer:
        """Return a new buffer, whose values are arbitrary.

        Args:
            shape: its shape.
            dtype: its dtype.

        Raises:
            BackendError: the device has not enough memory.
        """
        ...

    def write(self, buffer: Buffer, array: Array) -> None:
        """Copy an array to the device.

        Args:
            buffer: a whole buffer of `empty`.
            array: an array of its shape and dtype.
        """
        ...

    def read(self, buffer: Buffer) -> Array:
        """Return a copy of a whole buffer of `empty`, in the memory of the processor."""
        ...


class BoundEngine(Engine, Protocol):
    """The interface of an engine that can run on buffers.

    Attributes:
        memory: the memory of the device that the engine runs on.
        outputs: the descriptions of its outputs by name.
    """

    memory: Memory
    outputs: Mapping[str, TensorSpec]

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Launch:
        """Return a function that runs the engine on buffers, and returns when the results are there.

        From the second call or so on, it replays a CUDA graph where the library can capture one. It may run the engine
        more than once in its first calls, so that no output may share memory with an input.

        Args:
            inputs: the buffers of the inputs by name.
            outputs: the buffers of all outputs by name.

        Raises:
            BackendError: the engine does not take these shapes, or cannot be run.
        """
        ...


def allocate_outputs(engine: BoundEngine, rows: int) -> dict[str, Buffer]:
    """Return new buffers for the outputs of an engine, by name.

    Args:
        engine: an engine whose outputs have no free dimension but their first.
        rows: the size of that dimension.

    Raises:
        BackendError: the device has not enough memory.
    """
    return {
        name: engine.memory.empty(tuple(n if isinstance(n, int) else rows for n in tensor.shape), tensor.dtype)
        for name, tensor in engine.outputs.items()
    }
