"""How near images are to a training set, compared with people who are not in it, the outsiders.

See `benchmarks.evaluate.memorisation` for what the comparison means.
"""

from dataclasses import asdict

import numpy as np
from scipy.stats import betabinom, norm

from ..metrics import FEWEST
from .intervals import Interval, bootstrap
from .types import Figures, Vector

TAILS = {"95 %": 0.05, "99 %": 0.01}  # the share of the outsiders that is nearer than so many of them
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def compare(near: Vector, yardstick: Vector, alike: float | None = None) -> Figures:
    """How near images are to the training set, compared with outsiders.

    Args:
        near: (n,), the similarity of each image to its nearest training picture.
        yardstick: (m,), the same of the outsiders.
        alike: the similarity from which on two pictures are near copies, if there is one.

    Returns:
        ``nearer than 95 %`` and ``99 %``: see `share_nearer`. ``AUC``: see `auc`. ``quantiles``: of the images' and the
        outsiders' similarities, at `QUANTILES`. ``near copies``: the share of the images that are as similar as that.
    """
    found: Figures = {f"nearer than {name}": share_nearer(near, yardstick, tail) for name, tail in TAILS.items()}
    enough = min(len(near), len(yardstick)) >= FEWEST
    found["AUC"] = asdict(auc(near, yardstick)) if enough else None
    both = {"images": near, "outsiders": yardstick}
    found["quantiles"] = {name: np.quantile(own, QUANTILES).tolist() for name, own in both.items() if len(own)}
    if alike is not None:
        found["near copies"] = asdict(bootstrap((near >= alike).astype(np.float64)))
    return found


def share_nearer(near: Vector, yardstick: Vector, tail: float) -> Figures | None:
    """The share of images that are nearer to the training set than all but a share of the outsiders.

    The threshold lies between two outsiders so that a further one is above it with exactly the probability ``tail``
    (Weibull's quantile: Hyndman and Fan, Sample Quantiles, 1996). If images are as near as outsiders, the number of
    them above it is beta-binomial (Angelopoulos and Bates, Conformal Prediction: A Gentle Introduction, 2023, appendix
    C): the interval of chance holds both the luck of the images and that of the outsiders.

    Args:
        near: (n,), see `compare`.
        yardstick: (m,), see `compare`.
        tail: the share of the outsiders that is nearer.

    Returns:
        ``threshold``, the similarity; ``share`` and ``chance``, intervals; None where the threshold would lie beyond
        the nearest outsider, as with fewer than 19 of them for 5 % and 99 for 1 %, or where there are no images.
    """
    n, m = len(near), len(yardstick)
    above = tail * (m + 1)
    if n == 0 or above < 1:
        return None
    threshold = float(np.quantile(yardstick, 1 - tail, method="weibull"))
    low, high = betabinom.ppf([0.025, 0.975], n, above, m + 1 - above) / n
    return {
        "threshold": threshold,
        "share": asdict(bootstrap((near > threshold).astype(np.float64))),
        "chance": asdict(Interval(tail, float(low), float(high), n)),
    }


def auc(near: Vector, yardstick: Vector) -> Interval:
    """The probability that an image is nearer to the training set than an outsider; a tie counts one half.

    The interval is that of DeLong et al. (Comparing the Areas under Two or More Correlated Receiver Operating
    Characteristic Curves, 1988); it has no width where the two groups do not overlap.

    Args:
        near: (n,), n > 1; see `compare`.
        yardstick: (m,), m > 1; see `compare`.
    """

    def below(values: Vector, others: Vector) -> Vector:
        """The share of the others below each value."""
        ordered = np.sort(others)
        sides = [np.searchsorted(ordered, values, side) for side in ("left", "right")]
        shares: Vector = (sides[0] + sides[1]) / (2 * len(others))
        return shares

    images, outsiders = below(near, yardstick), below(yardstick, near)
    half = float(norm.ppf(0.975) * np.sqrt(images.var(ddof=1) / len(near) + outsiders.var(ddof=1) / len(yardstick)))
    value = float(images.mean())
    return Interval(value, max(0.0, value - half), min(1.0, value + half), len(near))
