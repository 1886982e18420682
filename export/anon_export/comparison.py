"""Differences between two results that should be alike."""

import math

import numpy as np
from numpy.typing import NDArray

from anon_runtime.bundle.manifest import EngineError


def measure(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> EngineError:
    """Differences of two arrays; NaN anywhere makes all of them NaN."""
    error = np.abs(ours.astype(np.float64) - theirs)
    largest = float(np.abs(theirs).max())
    return EngineError(
        max=float(error.max()),
        mean=float(error.mean()),
        p999=float(np.quantile(error, 0.999)),
        relative=float(error.max() / max(largest, 1e-12)),
    )


def relative_rms(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """Root mean square of the differences of two arrays, relative to the root mean square of the second."""
    exact = theirs.astype(np.float64)
    error, size = float(np.mean((ours - exact) ** 2)), float(np.mean(exact**2))
    return math.sqrt(error / max(size, 1e-24))


def psnr(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    """Peak signal-to-noise ratio of two 8-bit images in dB; infinite if they are equal."""
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))
