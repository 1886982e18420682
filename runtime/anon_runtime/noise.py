"""torch's normal numbers and torchsde's Brownian tree, in numpy, seed for seed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .schedule import Schedule

Floats = NDArray[np.float32]

_BLOCK = 16  # torch draws normal numbers in blocks of 16: 8 cosines, then 8 sines
_TWO_PI = np.float32(2 * np.pi)


class NormalStream:
    """The normal numbers of ``torch.Generator("cpu").manual_seed(seed)``, in the order in which they are drawn.

    mt19937 is seeded with the low 32 bits of the seed. Source: pytorch, ``aten/src/ATen/native/cpu/
    DistributionTemplates.h`` (``normal_fill_AVX2``, ``normal_fill_16``) and ``ATen/core/DistributionsHelper.h``.
    """

    def __init__(self, seed: int) -> None:
        self._bits = np.random.MT19937()
        self._bits._legacy_seeding(seed & 0xFFFFFFFF)
        self._spare: float | None = None

    def draw(self, size: int) -> Floats:
        """The next ``torch.randn(size)``: float32 of shape (size,)."""
        return self._draw_few(size) if size < _BLOCK else self._draw_many(size)

    def _draw_many(self, size: int) -> Floats:
        whole = size - size % _BLOCK
        values = box_muller(self._uniform(size))
        if whole != size:
            # The last 16 values, overlapping the last block, are drawn afresh.
            values[-_BLOCK:] = box_muller(self._uniform(_BLOCK))
        return values

    def _uniform(self, size: int) -> Floats:
        bits = self._bits.random_raw(size).astype(np.uint32)
        return (bits & np.uint32(0xFFFFFF)).astype(np.float32) * np.float32(2.0**-24)

    def _draw_few(self, size: int) -> Floats:
        return np.array([self._draw_one() for _ in range(size)], dtype=np.float32)

    def _draw_one(self) -> float:
        """Box-Muller in double precision, two numbers at a time."""
        if self._spare is not None:
            value, self._spare = self._spare, None
            return value
        u1, u2 = self._uniform53(), self._uniform53()
        radius = np.sqrt(-2.0 * np.log1p(-u2))
        angle = 2.0 * np.pi * u1
        self._spare = float(radius * np.sin(angle))
        return float(radius * np.cos(angle))

    def _uniform53(self) -> float:
        high, low = (int(x) for x in self._bits.random_raw(2))
        return ((high << 32 | low) & ((1 << 53) - 1)) * 2.0**-53


def box_muller(uniform: Floats) -> Floats:
    """Normal from uniform numbers in [0, 1), block by block of 16 as torch pairs them; a shorter rest stays."""
    values = uniform.copy()
    blocks = values[: len(values) - len(values) % _BLOCK].reshape(-1, 2, _BLOCK // 2)
    radius = np.sqrt(np.float32(-2) * np.log(np.float32(1) - blocks[:, 0]))
    angle = _TWO_PI * blocks[:, 1]
    blocks[:, 0] = radius * np.cos(angle)
    blocks[:, 1] = radius * np.sin(angle)
    return values


@dataclass(frozen=True)
class Node:
    """An interval of the tree that is cut at its midpoint: the left part gets a random share, the right one the rest.

    ``parent`` is the index of the piece that is cut; the two parts are the pieces ``2 * i + 1`` and ``2 * i + 2`` for
    the i-th node of a plan. ``left``, ``right`` and ``reciprocal`` are the parts' lengths and 1 / the whole length.
    """

    parent: int
    spawn_key: tuple[int, int]
    left: float
    right: float
    reciprocal: float


@dataclass(frozen=True)
class TreePlan:
    """Which parts of a Brownian path a schedule asks for; it holds for every seed.

    Attributes:
        span: square root of the root's length.
        nodes: in an order in which every parent comes before its parts. Piece 0 is the root.
        queries: for each noise query the pieces to add up, left to right.
        scales: float32; what each sum is divided by.
    """

    span: float
    nodes: tuple[Node, ...]
    queries: tuple[tuple[int, ...], ...]
    scales: Floats


def plan_tree(schedule: Schedule) -> TreePlan:
    """Plan the Brownian tree of a schedule.

    Mirrors torchsde's ``BrownianInterval(tol=1e-6, pool_size=24, halfway_tree=True)``: end points are rounded to 6
    digits and clamped to the root; an interval is halved until the end points of a query are hit.
    """
    asked = [k for k in range(schedule.evaluations) if not np.isnan(schedule.query_from[k])]
    if not asked:
        return TreePlan(0.0, (), (), np.empty(0, np.float32))
    start, end = _tree_span(schedule)
    tree = _Tree(round(start, 6), round(end, 6))
    queries = []
    for k in asked:
        ends = sorted((float(schedule.query_from[k]), float(schedule.query_to[k])))
        low, high = (round(min(max(t, tree.start), tree.end), 6) for t in ends)
        queries.append(tuple(tree.pieces(low, high)))
    return TreePlan(float(np.sqrt(end - start)), tuple(tree.nodes), tuple(queries), schedule.query_scales[asked])


def _tree_span(schedule: Schedule) -> tuple[float, float]:
    """Lowest and highest sigma of the schedule: the first and the last evaluation are at full steps."""
    return float(schedule.sigmas[-1]), float(schedule.sigmas[0])


class _Tree:
    """A binary tree of intervals that grows as it is searched."""

    def __init__(self, start: float, end: float) -> None:
        self.start, self.end = start, end
        self.nodes: list[Node] = []
        self._cuts: dict[int, tuple[int, float]] = {}  # piece -> index of its node, midpoint

    def pieces(self, low: float, high: float) -> Iterator[int]:
        """The pieces that make up [low, high], left to right."""
        return self._search(0, self.start, self.end, (0, 0), low, high)

    def _search(
        self, piece: int, start: float, end: float, key: tuple[int, int], low: float, high: float
    ) -> Iterator[int]:
        if low == start and high == end:
            yield piece
            return
        if low == high:
            return
        index, middle = self._cut(piece, start, end, key)
        number, depth = key
        if low < middle:
            yield from self._search(2 * index + 1, start, middle, (2 * number, depth + 1), low, min(high, middle))
        if high > middle:
            yield from self._search(2 * index + 2, middle, end, (2 * number + 1, depth + 1), max(low, middle), high)

    def _cut(self, piece: int, start: float, end: float, key: tuple[int, int]) -> tuple[int, float]:
        if piece not in self._cuts:
            middle = round(0.5 * (end + start), 6)
            self._cuts[piece] = len(self.nodes), middle
            self.nodes.append(Node(piece, key, middle - start, end - middle, 1 / (end - start)))
        return self._cuts[piece]


def draw_tree(plan: TreePlan, seed: int, size: int) -> Floats:
    """The noise of every query of a plan for one picture: float32 (queries, size), unit variance."""
    if not plan.queries:
        return np.empty((0, size), np.float32)
    pieces = np.empty((1 + 2 * len(plan.nodes), size), np.float32)
    root_seed = int(np.random.SeedSequence(seed, pool_size=24).generate_state(1)[0])
    pieces[0] = NormalStream(root_seed).draw(size) * np.float32(plan.span)
    for index, node in enumerate(plan.nodes):
        whole = pieces[node.parent]
        normal = NormalStream(_node_seed(seed, node.spawn_key)).draw(size)
        spread = np.float32(np.sqrt(node.left * node.right * node.reciprocal))
        left = np.float32(node.left) * whole * np.float32(node.reciprocal) + spread * normal
        pieces[2 * index + 1] = left
        pieces[2 * index + 2] = whole - left
    sums = np.stack([_sum_in_order(pieces, query) for query in plan.queries])
    # Sigma falls along the schedule, so the path is followed backwards: hence the sign.
    return -sums / plan.scales[:, None]


def _node_seed(seed: int, spawn_key: tuple[int, int]) -> int:
    return int(np.random.SeedSequence(seed, spawn_key=spawn_key, pool_size=24).generate_state(1)[0])


def _sum_in_order(pieces: Floats, query: tuple[int, ...]) -> Floats:
    total = pieces[query[0]].copy()
    for piece in query[1:]:
        total += pieces[piece]
    return total


@dataclass(frozen=True)
class PictureNoise:
    """All random numbers of one picture.

    Attributes:
        initial: float32, latent shape; standard normal.
        steps: float32, (draws, *latent shape); the noise of the sampler's updates, in their order.
    """

    initial: Floats
    steps: Floats


def draw_noise(schedule: Schedule, seed: int, shape: Sequence[int]) -> PictureNoise:
    """Draw what diffusers draws for ``generator`` and ``noise_sampler_seed`` both set to ``seed``.

    dpmpp_sde takes the initial latents from the generator and the rest from a Brownian tree; dpmpp_2m_sde goes on
    drawing from the generator.

    Args:
        schedule: sampler tables.
        seed: 0 .. 2**64 - 1.
        shape: of one picture's latents, (channels, height, width).
    """
    size = int(np.prod(shape))
    stream = NormalStream(seed)
    initial = stream.draw(size).reshape(shape)
    if schedule.sampler == "dpmpp_sde":
        steps = draw_tree(plan_tree(schedule), seed, size)
    else:
        steps = np.stack([stream.draw(size) for _ in range(schedule.evaluations)])
    return PictureNoise(initial, steps.reshape(-1, *shape))
