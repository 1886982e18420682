"""The manifest's entry for the face-recognition network: how a face is aligned for it, and what its outputs mean.

The network maps a face to an embedding. The similarity of two faces is the cosine of their embeddings, -1..1. A
calibration says how often two different people reach a similarity, so that a threshold can be chosen by its false match
rate (ISO/IEC 19795-1).
"""

import math
from dataclasses import dataclass

Point = tuple[float, float]  # x and y in pixels
# The five landmarks of a face in a crop of 112 x 112 pixels, as in ArcFace (Deng et al., 2019), SFace and OpenCV: the
# left eye, right eye, nose, left and right corner of the mouth, where left and right are as seen by the viewer.
ARCFACE_TEMPLATE: tuple[Point, ...] = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)


@dataclass(frozen=True)
class Tail:
    """A generalized Pareto distribution of the similarities of different people above a similarity.

    Attributes:
        start: the similarity from which on the distribution holds.
        rate: the share of pairs of different people that are at least as similar as this, 0..1.
        shape: the shape of the distribution; the tail ends where it is negative.
        scale: the scale of the distribution, above 0.
    """

    start: float
    rate: float
    shape: float
    scale: float


@dataclass(frozen=True)
class Calibration:
    """The similarities of different people, measured on a set of faces.

    Attributes:
        data: the name of the set of faces.
        people: the number of people; near copies of one photo count as one person.
        pairs: the number of pairs of different people.
        rates: the false match rates that were measured without a model, falling.
        thresholds: the similarity that pairs of different people reach at each of these rates.
        tail: the model of the rates below; it is used where no rate was measured.
        resampled: the same model for samples of the people that were drawn with replacement (bootstrap). Intervals
            follow from them.
        histogram: the number of pairs by similarity, in bins of equal width over -1..1.

    Raises:
        ValueError: no threshold can be found with these numbers, because there are too few of them, or because a rate
            is no share, a number is not finite, or the rates do not fall.
    """

    data: str
    people: int
    pairs: int
    rates: tuple[float, ...]
    thresholds: tuple[float, ...]
    tail: Tail
    resampled: tuple[Tail, ...]
    histogram: tuple[int, ...]

    def __post_init__(self) -> None:
        tails = (self.tail, *self.resampled)
        if self.pairs < 1 or not self.resampled or not 0 < len(self.rates) == len(self.thresholds):
            raise ValueError("a calibration needs pairs of people, resampled tails, and a threshold for each rate")
        if not all(0 < rate <= 1 for rate in (*self.rates, *(tail.rate for tail in tails))):
            raise ValueError("the rates of a calibration are shares of pairs")
        if list(self.rates) != sorted(set(self.rates), reverse=True):
            raise ValueError("the rates of a calibration do not fall")
        numbers = (*self.thresholds, *(number for tail in tails for number in (tail.start, tail.shape, tail.scale)))
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError("a calibration has a number that is not finite")


@dataclass(frozen=True)
class IdentitySpec:
    """The manifest's entry for the face-recognition network, the engine ``face_identity``.

    Its input ``image`` is float32 (n, 3, size, size), RGB, 0..255; its output ``embedding`` is float32 (n, d).

    Attributes:
        name: the name of the network.
        size: the side of the network's input in pixels.
        template: the five points that the landmarks of a face are moved to, in pixels of the input; the order is that
            of `anon_runtime.faces.detection.Face`.
        calibration: the similarities of different people; None if they were not measured.

    Raises:
        ValueError: the size is not positive, or the template does not have five points.
    """

    name: str
    size: int
    template: tuple[Point, ...]
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        if self.size < 1 or len(self.template) != 5:
            raise ValueError("a face-recognition network needs a size of at least 1 and five points")
