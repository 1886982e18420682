"""An attacker who has the whole folder at once, and knows that no two portraits are of one original."""

import numpy as np
from scipy.special import logsumexp

from ..reidentification import Doubles
from ..types import Vector

ROUNDS = 50


def one_to_one(likelihoods: Vector) -> Doubles:
    """Share every original among the portraits: an original that suits many portraits counts less for each of them.

    Rows and columns are scaled in turn until all have the same sum (Sinkhorn, 1967). The result is the one-to-one
    assignment at temperature 1 (Cuturi, Sinkhorn distances, 2013), and every original still has a rank. Rows depend on
    each other, so that intervals which take portraits as independent are a little too narrow.

    Args:
        likelihoods: log-likelihoods (n, m) of originals for each portrait; all finite.

    Returns:
        (n, m): the logarithm of the shares.
    """
    shares = np.asarray(likelihoods, np.float64)
    for _ in range(ROUNDS):
        shares = shares - logsumexp(shares, axis=1, keepdims=True)
        shares = shares - logsumexp(shares, axis=0, keepdims=True)
    return shares
