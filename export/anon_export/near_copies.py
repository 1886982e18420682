"""Near copies: photos that show the same picture in another size, another crop or other colours."""

import numpy as np
from numpy.typing import NDArray

SIDE = 24  # pixels of a thumbnail along each side
# Photos whose thumbnails correlate more than this count as images of one face, even if the colours differ.
ALIKE = 0.88


def group_copies(thumbnails: NDArray[np.float32], *, same: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """The number of each photo's group. Photos are in one group if a chain of near copies connects them.

    Args:
        thumbnails: (n, d), the photos at `SIDE` x `SIDE` pixels, all channels in a row, 0..255.
        same: (n, n), the pairs of photos that belong together for another reason; it is symmetric.

    Returns:
        (n,): the number of the first photo of the group.
    """
    different = thumbnails - thumbnails.mean(axis=0)
    length = np.linalg.norm(different, axis=1)
    # The last digits are rounded: photos that are all equal differ from their mean by less than a grey value.
    connected = different @ different.T >= ALIKE * np.outer(length, length) - 1
    np.fill_diagonal(connected, True)
    if same is not None:
        connected |= same
    group = np.arange(len(thumbnails))
    while True:
        merged = np.where(connected, group, len(thumbnails)).min(axis=1)
        if (merged == group).all():
            return group
        group = merged
