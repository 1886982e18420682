"""A calibration for tests."""

from anon_runtime.bundle.identity import Calibration, Tail

RATES = (0.5, 0.1, 0.01, 0.001)
THRESHOLDS = (0.2, 0.4, 0.6, 0.7)
TAIL = Tail(0.4, 0.1, -0.2, 0.1)  # it ends at 0.4 + 0.1 / 0.2 = 0.9


def calibration(tail: Tail = TAIL, resampled: tuple[Tail, ...] = (TAIL,), pairs: int = 10_000) -> Calibration:
    return Calibration("faces", 142, pairs, RATES, THRESHOLDS, tail, resampled, (pairs,))
