"""torch's normal numbers and torchsde's Brownian tree, in numpy, seed for seed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .schedule import Schedule

Floats = NDArray[np.float32]
Words = NDArray[np.uint32]

_BLOCK = 16  # torch draws normal numbers in blocks of 16: 8 cosines, then 8 sines
_HALF_BLOCK = np.dtype("V32")  # 8 numbers of 4 bytes
_POOL = 24  # torchsde's pool_size


class NormalStream:
    """The normal numbers of ``torch.Generator("cpu").manual_seed(seed)``, in the order in which they are drawn.

    mt19937 is seeded with the low 32 bits of the seed. Source: pytorch, ``aten/src/ATen/native/cpu/
    DistributionTemplates.h`` (``normal_fill_AVX2``, ``normal_fill_16``) and ``ATen/core/DistributionsHelper.h``.
    """

    def __init__(self, seed: int) -> None:
        words = np.random.MT19937()
        self._words = np.random.Generator(words)
        self._state = np.random.RandomState(words)  # knows torch's way of seeding
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Start again with another seed; cheaper than a new stream."""
        self._state.seed(seed & 0xFFFFFFFF)
        self._spare: float | None = None

    def draw(self, size: int) -> Floats:
        """The next ``torch.randn(size)``: float32 of shape (size,)."""
        return self._draw_few(size) if size < _BLOCK else self._draw_many(size)

    def words(self, count: int) -> Words:
        """The next random 32-bit words."""
        return self._words.integers(0, 1 << 32, count, dtype=np.uint32)

    def _draw_many(self, size: int) -> Floats:
        rest = size % _BLOCK
        values = interleave(box_muller(self.words(size)[: size - rest]))
        if rest:
            # The last 16 values, overlapping the last block, are drawn afresh.
            last = interleave(box_muller(self.words(_BLOCK)))
            values = np.concatenate([values[: size - _BLOCK], last])
        return values

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
        high, low = (int(word) for word in self.words(2))
        return ((high << 32 | low) & ((1 << 53) - 1)) * 2.0**-53


def box_muller(words: Words) -> Floats:
    """Normal numbers from random words (..., size), size a multiple of 16, paired as torch pairs them.

    In each block of 16 the low 24 bits of word j (j < 8) give the radius and those of word j + 8 the angle.

    Returns:
        ``radius * cos(angle)`` and ``radius * sin(angle)``, (2, ..., size / 2); `interleave` brings them into torch's
        order. The memory of ``words`` is overwritten: fresh memory for each step would take longer than the step.
    """
    words &= np.uint32(0xFFFFFF)
    shape = (2, *words.shape[:-1], words.shape[-1] // 2)
    # Halves of a block are moved as items of 32 bytes: numpy's loops over runs of 8 numbers are three times slower.
    halves = np.empty(shape, np.uint32)
    halves.view(_HALF_BLOCK).reshape(2, -1)[:] = words.view(_HALF_BLOCK).reshape(-1, 2).T
    radius, angle = uniform = words.view(np.float32).reshape(shape)
    uniform[:] = halves.view(np.int32)
    # 1 - u and 2 pi u for u = word * 2**-24; the power of two changes no rounding.
    np.subtract(np.float32(2**24), radius, out=radius)
    radius *= np.float32(2.0**-24)
    np.log(radius, out=radius)
    radius *= np.float32(-2)
    np.sqrt(radius, out=radius)
    angle *= np.float32(2 * np.pi) * np.float32(2.0**-24)
    pairs = halves.view(np.float32)
    np.cos(angle, out=pairs[0])
    np.sin(angle, out=pairs[1])
    pairs *= radius
    return pairs


def interleave(pairs: Floats) -> Floats:
    """Bring cosines and sines (2, ..., size / 2) into torch's order (..., size): 8 of each in turn."""
    values = np.empty((*pairs.shape[1:-1], 2 * pairs.shape[-1]), np.float32)
    values.view(_HALF_BLOCK).reshape(-1, 2).T[:] = np.ascontiguousarray(pairs).view(_HALF_BLOCK).reshape(2, -1)
    return values


@dataclass(frozen=True)
class Cut:
    """A piece of the path that is halved: the left part gets a random share of the increment, the right one the rest.

    Attributes:
        left_length, right_length: of the parts.
        reciprocal: 1 / the whole length.
    """

    left_length: float
    right_length: float
    reciprocal: float
    left: "Piece"
    right: "Piece"


@dataclass(frozen=True)
class Piece:
    """An interval of the Brownian path: the queries that it is part of, and how it is cut further."""

    queries: tuple[int, ...]
    cut: Cut | None


@dataclass(frozen=True)
class TreePlan:
    """Which parts of a Brownian path a schedule asks for; it holds for every seed.

    Attributes:
        span: length of the root.
        root: the whole path.
        keys: (spawn key, depth) of every cut in the order in which they are met from left to right, uint32 (cuts, 2).
        scales: float32 (queries,); what each query's increment is divided by.
    """

    span: float
    root: Piece
    keys: NDArray[np.uint32]
    scales: Floats


def plan_tree(schedule: Schedule) -> TreePlan:
    """Plan the Brownian tree of a dpmpp_sde schedule.

    Mirrors torchsde's ``BrownianInterval(tol=1e-6, pool_size=24, halfway_tree=True)``: end points are rounded to 6
    digits and clamped to the root; an interval is halved until the end points of all queries are hit.
    """
    # The first and the last evaluation are at the highest and the lowest sigma.
    start, end = float(schedule.sigmas[-1]), float(schedule.sigmas[0])
    asked = ~np.isnan(schedule.query_from)
    low, high = round(start, 6), round(end, 6)
    ends = [
        sorted(round(min(max(float(t), low), high), 6) for t in pair)
        for pair in zip(schedule.query_from[asked], schedule.query_to[asked], strict=True)
    ]
    keys: list[tuple[int, int]] = []
    root = _plan_piece(low, high, (0, 0), {k: (a, b) for k, (a, b) in enumerate(ends) if a < b}, keys)
    return TreePlan(end - start, root, np.array(keys, np.uint32).reshape(-1, 2), schedule.query_scales[asked])


def _plan_piece(
    start: float, end: float, key: tuple[int, int], wanted: dict[int, tuple[float, float]], keys: list[tuple[int, int]]
) -> Piece:
    """Plan the interval [start, end], of which the queries in ``wanted`` need a part or all."""
    whole = tuple(k for k, ends in wanted.items() if ends == (start, end))
    parts = {k: ends for k, ends in wanted.items() if k not in whole}
    if not parts:
        return Piece(whole, None)
    keys.append(key)
    middle = round(0.5 * (end + start), 6)
    left = {k: (a, min(b, middle)) for k, (a, b) in parts.items() if a < middle}
    right = {k: (max(a, middle), b) for k, (a, b) in parts.items() if b > middle}
    number, depth = key
    cut = Cut(
        middle - start, end - middle, 1 / (end - start),
        _plan_piece(start, middle, (2 * number, depth + 1), left, keys),
        _plan_piece(middle, end, (2 * number + 1, depth + 1), right, keys),
    )  # fmt: skip
    return Piece(whole, cut)


def draw_tree(plan: TreePlan, seed: int, size: int) -> Floats:
    """The noise of every query of a plan for one picture: float32 (queries, size), unit variance.

    The path is walked from left to right, so that the pieces of a query are added up in torchsde's order and only two
    pieces for each depth are kept.
    """
    root_seed = int(np.random.SeedSequence(seed, pool_size=_POOL).generate_state(1)[0])
    normals = seeded_normals([root_seed, *map(int, cut_seeds(seed, plan.keys))], size)
    first = next(normals)
    increments = np.zeros((len(plan.scales), *first.shape), np.float32)
    parts = np.empty((2, 1 + int(plan.keys[:, 1].max(initial=0)), *first.shape), np.float32)

    def walk(piece: Piece, whole: Floats, depth: int) -> None:
        for query in piece.queries:
            increments[query] += whole
        cut = piece.cut
        if cut is None:
            return
        left, right = parts[:, depth]
        np.multiply(whole, np.float32(cut.left_length), out=left)
        left *= np.float32(cut.reciprocal)
        spread = np.float32(np.sqrt(cut.left_length * cut.right_length * cut.reciprocal))
        left += np.multiply(next(normals), spread, out=right)
        walk(cut.left, left, depth + 1)
        walk(cut.right, np.subtract(whole, left, out=right), depth + 1)

    walk(plan.root, first * np.float32(np.sqrt(plan.span)), 0)
    # Sigma falls along the schedule, so the path is followed backwards: hence the sign.
    increments /= -plan.scales.reshape(-1, *[1] * first.ndim)
    return increments if first.ndim == 1 else interleave(increments.swapaxes(0, 1))


def seeded_normals(seeds: Sequence[int], size: int) -> Iterator[Floats]:
    """``torch.randn(size)`` for each seed: before `interleave`, (2, size / 2), where size is a multiple of 16.

    Sums can be taken in that order as well, so the values need to be interleaved only once. An array is valid until
    the next one is asked for.
    """
    stream = NormalStream(0)
    if size % _BLOCK:
        for seed in seeds:
            stream.reseed(seed)
            yield stream.draw(size)
        return
    # A few vectors at a time: enough to outweigh the cost of a numpy call, few enough to stay in the cache.
    words = np.empty((4, size), np.uint32)
    for start in range(0, len(seeds), len(words)):
        some = seeds[start : start + len(words)]
        for row, seed in zip(words, some, strict=False):
            stream.reseed(seed)
            row[:] = stream.words(size)
        yield from box_muller(words[: len(some)]).swapaxes(0, 1)


def cut_seeds(seed: int, keys: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """First word of ``SeedSequence(seed, spawn_key=key, pool_size=24)`` for many keys at once.

    numpy mixes the entropy into a pool first and the spawn key's words after it, so all keys share the first, long
    part; and the first word of the output depends on the first word of the pool only. Source: numpy,
    ``random/bit_generator.pyx`` (``mix_entropy``, ``generate_state``), after O'Neill's ``seed_seq_fe``.
    """
    init_a, mult_a, init_b, mult_b = 0x43B0D7E5, 0x931E8875, 0x8B51F9DD, 0x58F38DED
    mix_left, mix_right, mask = np.uint32(0xCA01F9DD), np.uint32(0x4973F715), 0xFFFFFFFF
    first = np.random.SeedSequence(seed, pool_size=_POOL).pool[0]
    pool = np.full(len(keys), first, np.uint32)
    hashed_so_far = _POOL + _POOL * (_POOL - 1)
    for word in range(2):
        # Every word of the key is mixed into all words of the pool, the first one first.
        constant = init_a * pow(mult_a, hashed_so_far + word * _POOL, 1 << 32) & mask
        value = (keys[:, word] ^ np.uint32(constant)) * np.uint32(constant * mult_a & mask)
        value ^= value >> np.uint32(16)
        pool = mix_left * pool - mix_right * value
        pool ^= pool >> np.uint32(16)
    output = (pool ^ np.uint32(init_b)) * np.uint32(init_b * mult_b & mask)
    return output ^ (output >> np.uint32(16))


@dataclass(frozen=True)
class NoisePlan:
    """What has to be drawn for a picture of one schedule, whatever its seed.

    Attributes:
        draws: number of noise arrays that the sampler uses.
        tree: the Brownian tree of dpmpp_sde; None where the noise comes from the generator.
    """

    draws: int
    tree: TreePlan | None


def plan_noise(schedule: Schedule) -> NoisePlan:
    """Plan the random numbers of a schedule, once for all pictures."""
    if schedule.sampler == "dpmpp_sde":
        tree = plan_tree(schedule)
        return NoisePlan(len(tree.scales), tree)
    return NoisePlan(schedule.evaluations, None)


def draw_initial(seed: int, shape: Sequence[int]) -> Floats:
    """Initial latents of a picture, standard normal: ``torch.randn(shape, generator=manual_seed(seed))``."""
    return NormalStream(seed).draw(int(np.prod(shape))).reshape(shape)


def draw_noise(plan: NoisePlan, seed: int, shape: Sequence[int]) -> Floats:
    """The noise of a picture's sampler: what diffusers draws with ``generator`` and ``noise_sampler_seed`` both seed.

    dpmpp_sde follows a Brownian path of its own; dpmpp_2m_sde goes on where the initial latents ended.

    Args:
        plan: of the schedule.
        seed: 0 .. 2**64 - 1.
        shape: of one picture's latents, (channels, height, width).

    Returns:
        float32 (draws, channels, height, width).
    """
    size = int(np.prod(shape))
    if plan.tree is not None:
        noise = draw_tree(plan.tree, seed, size)
    else:
        stream = NormalStream(seed)
        stream.draw(size)  # the initial latents
        noise = np.stack([stream.draw(size) for _ in range(plan.draws)])
    return noise.reshape(plan.draws, *shape)
