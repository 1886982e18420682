"""The noise of an image, equal to the noise that diffusers draws for the same seed.

How a seed becomes noise:

1. The seed. In a folder run, `anon_runtime.folder.identity.identify` makes a seed of 32 bits for each photo from the
   run's secret seed and the photo's content; with a prompt, the seed is the user's. It is passed on as `Request.seed`.
2. The initial latents: `draw_initial` is ``torch.randn(shape, generator=manual_seed(seed))``; the module
   `anon_runtime.diffusion.generator` multiplies them by ``init_noise_sigma``.
3. The noise of the updates: `draw_noise`. For ``dpmpp_sde`` it comes from a Brownian path with its own
   ``SeedSequence`` of the seed, as in torchsde's ``BrownianInterval``: `build_tree` finds out once which pieces of the
   path a schedule needs, and `sample_tree` draws them for a seed. For ``dpmpp_2m_sde`` it consists of the generator's
   next normal numbers, as in diffusers' ``DPMSolverMultistepScheduler``.
4. The normal numbers: `anon_runtime.diffusion.torch_rng` computes torch's mt19937 and Box-Muller transform.
5. The sampler (`anon_runtime.diffusion.samplers`) takes the noise of update k and multiplies it by ``noise_coefs[k]``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..types import Floats
from .schedule import Schedule
from .torch_rng import NormalStream, interleave, seeded_normals

_POOL = 24  # torchsde's pool_size


@dataclass(frozen=True)
class Cut:
    """The division of a piece of the path into two halves.

    The left half gets a random share of the piece's increment, and the right half gets the rest.

    Attributes:
        left_length: the length of the left half.
        right_length: the length of the right half.
        reciprocal: 1 divided by the length of the whole piece.
        left: the left half.
        right: the right half.
    """

    left_length: float
    right_length: float
    reciprocal: float
    left: "Piece"
    right: "Piece"


@dataclass(frozen=True)
class Piece:
    """An interval of the Brownian path.

    Attributes:
        queries: the indices of the queries whose increment includes the whole piece.
        cut: the division of the piece; None if no query needs a part of it.
    """

    queries: tuple[int, ...]
    cut: Cut | None


@dataclass(frozen=True)
class BrownianTree:
    """The pieces of a Brownian path that a schedule needs; they are the same for every seed.

    Attributes:
        span: the length of the whole path.
        root: the whole path.
        keys: uint32 (cuts, 2), the spawn key and the depth of every cut, in the order of a walk from left to right.
        scales: float32 (queries,), the numbers that the increments of the queries are divided by.
    """

    span: float
    root: Piece
    keys: NDArray[np.uint32]
    scales: Floats


def build_tree(schedule: Schedule) -> BrownianTree:
    """Return the Brownian tree of a schedule for ``dpmpp_sde``.

    This mirrors torchsde's ``BrownianInterval(tol=1e-6, pool_size=24, halfway_tree=True)``: end points are rounded to 6
    digits and clamped to the whole path, and an interval is halved until the end points of all queries are reached.
    """
    # The first evaluation is at the highest sigma, and the last one is at the lowest.
    start, end = float(schedule.sigmas[-1]), float(schedule.sigmas[0])
    asked = ~np.isnan(schedule.query_from)
    low, high = round(start, 6), round(end, 6)
    ends = [
        sorted(round(min(max(float(t), low), high), 6) for t in pair)
        for pair in zip(schedule.query_from[asked], schedule.query_to[asked], strict=True)
    ]
    keys: list[tuple[int, int]] = []
    root = _build_piece(low, high, (0, 0), {k: (a, b) for k, (a, b) in enumerate(ends) if a < b}, keys)
    return BrownianTree(end - start, root, np.array(keys, np.uint32).reshape(-1, 2), schedule.query_scales[asked])


def _build_piece(
    start: float, end: float, key: tuple[int, int], wanted: dict[int, tuple[float, float]], keys: list[tuple[int, int]]
) -> Piece:
    """Return the piece from ``start`` to ``end``, divided as far as the queries in ``wanted`` need it."""
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
        _build_piece(start, middle, (2 * number, depth + 1), left, keys),
        _build_piece(middle, end, (2 * number + 1, depth + 1), right, keys),
    )  # fmt: skip
    return Piece(whole, cut)


def sample_tree(tree: BrownianTree, seed: int, size: int) -> Floats:
    """Draw the noise of every query of a tree for one image.

    The path is walked from left to right. The pieces of a query are then added in the same order as in torchsde, and
    only two pieces are kept for each depth.

    Args:
        tree: the Brownian tree of the schedule.
        seed: 0 .. 2**64 - 1.
        size: the number of latents of one image.

    Returns:
        float32 (queries, size) with unit variance.
    """
    root_seed = int(np.random.SeedSequence(seed, pool_size=_POOL).generate_state(1)[0])
    normals = seeded_normals([root_seed, *map(int, cut_seeds(seed, tree.keys))], size)
    first = next(normals)
    increments = np.zeros((len(tree.scales), *first.shape), np.float32)
    parts = np.empty((2, 1 + int(tree.keys[:, 1].max(initial=0)), *first.shape), np.float32)

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

    walk(tree.root, first * np.float32(np.sqrt(tree.span)), 0)
    # The sign is negative because sigma falls along the schedule, so that the queries follow the path backwards.
    increments /= -tree.scales.reshape(-1, *[1] * first.ndim)
    return increments if first.ndim == 1 else interleave(increments.swapaxes(0, 1))


def cut_seeds(seed: int, keys: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return the first word of ``SeedSequence(seed, spawn_key=key, pool_size=24)`` for many keys at once.

    numpy first mixes the entropy into a pool and then the words of the spawn key. The first part takes most of the time
    and is the same for all keys, so it is done once. The first word of the output depends only on the first word of the
    pool. Source: numpy, ``random/bit_generator.pyx`` (``mix_entropy``, ``generate_state``), after O'Neill's
    ``seed_seq_fe``.

    Args:
        seed: 0 .. 2**64 - 1.
        keys: uint32 (k, 2), the words of the spawn keys.

    Returns:
        uint32 (k,).
    """
    init_a, mult_a, init_b, mult_b = 0x43B0D7E5, 0x931E8875, 0x8B51F9DD, 0x58F38DED
    mix_left, mix_right, mask = np.uint32(0xCA01F9DD), np.uint32(0x4973F715), 0xFFFFFFFF
    first = np.random.SeedSequence(seed, pool_size=_POOL).pool[0]
    pool = np.full(len(keys), first, np.uint32)
    hashed_so_far = _POOL + _POOL * (_POOL - 1)
    for word in range(2):
        # numpy mixes every word of the key into all words of the pool, beginning with the first word of the pool.
        constant = init_a * pow(mult_a, hashed_so_far + word * _POOL, 1 << 32) & mask
        value = (keys[:, word] ^ np.uint32(constant)) * np.uint32(constant * mult_a & mask)
        value ^= value >> np.uint32(16)
        pool = mix_left * pool - mix_right * value
        pool ^= pool >> np.uint32(16)
    output = (pool ^ np.uint32(init_b)) * np.uint32(init_b * mult_b & mask)
    return output ^ (output >> np.uint32(16))


@dataclass(frozen=True)
class NoiseSpec:
    """The description of the noise that an image of one schedule needs; it is the same for every seed.

    Attributes:
        draws: the number of noise arrays that the sampler uses.
        tree: the Brownian tree of ``dpmpp_sde``; None for ``dpmpp_2m_sde``, whose noise comes from the generator.
    """

    draws: int
    tree: BrownianTree | None


def specify_noise(schedule: Schedule) -> NoiseSpec:
    """Return the description of the noise for a schedule; it is needed only once for all images."""
    if schedule.sampler == "dpmpp_sde":
        tree = build_tree(schedule)
        return NoiseSpec(len(tree.scales), tree)
    return NoiseSpec(schedule.evaluations, None)


def draw_initial(seed: int, shape: Sequence[int], count: int = 1) -> Floats:
    """Draw what an image begins with: calls of ``torch.randn(shape, generator=manual_seed(seed))``.

    Args:
        seed: 0 .. 2**64 - 1.
        shape: the shape of one image's latents, (channels, height, width).
        count: the number of calls; the first one gives the initial latents of a whole image.

    Returns:
        float32 (count, channels, height, width), standard normal.
    """
    stream, size = NormalStream(seed), int(np.prod(shape))
    return np.stack([stream.draw(size).reshape(shape) for _ in range(count)])


def draw_noise(spec: NoiseSpec, seed: int, shape: Sequence[int], before: int = 1) -> Floats:
    """Draw the noise of an image's updates, as diffusers does if ``generator`` and ``noise_sampler_seed`` use the seed.

    For ``dpmpp_sde``, the noise follows a Brownian path that is independent of the initial latents. For
    ``dpmpp_2m_sde``, it consists of the generator's next numbers after those that an image begins with.

    Args:
        spec: the description of the schedule's noise.
        seed: 0 .. 2**64 - 1.
        shape: the shape of one image's latents, (channels, height, width).
        before: how often latents were drawn before; see `draw_initial`.

    Returns:
        float32 (draws, channels, height, width).
    """
    size = int(np.prod(shape))
    if spec.tree is not None:
        noise = sample_tree(spec.tree, seed, size)
    else:
        stream = NormalStream(seed)
        for _ in range(before):
            stream.draw(size)
        noise = np.stack([stream.draw(size) for _ in range(spec.draws)])
    return noise.reshape(spec.draws, *shape)
