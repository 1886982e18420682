"""Types of the evaluation's arrays and figures."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.floating[Any]]  # of one or more dimensions
Mask = NDArray[np.bool_]
Figures = dict[str, Any]  # figures by name, nested, in types that JSON has
