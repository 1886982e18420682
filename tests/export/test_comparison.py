import math

import numpy as np
import pytest

from anon_export.comparison import measure, psnr, relative_rms


def test_measure() -> None:
    theirs = np.linspace(-2, 2, 1000, dtype=np.float32)
    ours = theirs.copy()
    ours[3] += 0.5
    error = measure(ours, theirs)
    assert (error.max, error.relative) == (0.5, 0.25)
    assert error.mean == pytest.approx(0.0005)
    ours[3] = np.nan
    assert np.isnan(measure(ours, theirs).relative)


def test_relative_rms() -> None:
    theirs = np.array([3, -4, 0, 0], np.float32)
    assert relative_rms(theirs, theirs) == 0
    assert relative_rms(np.float32(1.1) * theirs, theirs) == pytest.approx(0.1, rel=1e-5)
    assert relative_rms(np.zeros(4, np.float32), theirs) == 1
    assert math.isnan(relative_rms(np.full(4, np.nan, np.float32), theirs))
    assert relative_rms(np.zeros(4, np.float32), np.zeros(4, np.float32)) == 0


def test_psnr() -> None:
    black, grey = np.zeros((4, 4), np.uint8), np.full((4, 4), 51, np.uint8)
    assert psnr(black, black) == math.inf
    assert psnr(black, grey) == psnr(grey, black) == pytest.approx(20 * math.log10(5))
