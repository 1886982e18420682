"""The noise of an image, seed for seed as diffusers draws it.

The road from a seed to noise:

1. The seed. In a folder run, `anon_runtime.folder.identity.identify` makes one of 32 bits for each photo from the run's
   secret seed and the photo's content; with a prompt, it is the user's. It travels as `Request.seed`.
2. The initial latents: `draw_initial` is ``torch.randn(shape, generator=manual_seed(seed))``, times
   ``init_noise_sigma`` in `anon_runtime.diffusion.generator`.
3. The noise of the updates: `draw_noise`. For ``dpmpp_sde`` it comes from a Brownian path with the seed's own
   ``SeedSequence``, as torchsde's ``BrownianInterval`` makes it: `build_tree` finds once which pieces of the path a
   schedule asks for, and `sample_tree` draws them for a seed. For ``dpmpp_2m_sde`` it is the generator's next normal
   numbers, as diffusers' ``DPMSolverMultistepScheduler`` draws them.
4. The normal numbers themselves: `anon_runtime.diffusion.torch_rng`, torch's mt19937 and Box-Muller transform.
5. The sampler (`anon_runtime.diffusion.samplers`) asks for the noise of update k and scales it by ``noise_coefs[k]``.
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
class BrownianTree:
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


def build_tree(schedule: Schedule) -> BrownianTree:
    """The Brownian tree of a dpmpp_sde schedule.

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
    root = _build_piece(low, high, (0, 0), {k: (a, b) for k, (a, b) in enumerate(ends) if a < b}, keys)
    return BrownianTree(end - start, root, np.array(keys, np.uint32).reshape(-1, 2), schedule.query_scales[asked])


def _build_piece(
    start: float, end: float, key: tuple[int, int], wanted: dict[int, tuple[float, float]], keys: list[tuple[int, int]]
) -> Piece:
    """The interval [start, end], of which the queries in ``wanted`` need a part or all."""
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
    """The noise of every query of a tree for one image: float32 (queries, size), unit variance.

    The path is walked from left to right, so that the pieces of a query are added up in torchsde's order and only two
    pieces for each depth are kept.
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
    # Sigma falls along the schedule, so the path is followed backwards: hence the sign.
    increments /= -tree.scales.reshape(-1, *[1] * first.ndim)
    return increments if first.ndim == 1 else interleave(increments.swapaxes(0, 1))


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
class NoiseSpec:
    """What has to be drawn for an image of one schedule, whatever its seed.

    Attributes:
        draws: number of noise arrays that the sampler uses.
        tree: the Brownian tree of dpmpp_sde; None where the noise comes from the generator.
    """

    draws: int
    tree: BrownianTree | None


def specify_noise(schedule: Schedule) -> NoiseSpec:
    """What has to be drawn for a schedule, once for all images."""
    if schedule.sampler == "dpmpp_sde":
        tree = build_tree(schedule)
        return NoiseSpec(len(tree.scales), tree)
    return NoiseSpec(schedule.evaluations, None)


def draw_initial(seed: int, shape: Sequence[int]) -> Floats:
    """Initial latents of an image, standard normal: ``torch.randn(shape, generator=manual_seed(seed))``."""
    return NormalStream(seed).draw(int(np.prod(shape))).reshape(shape)


def draw_noise(spec: NoiseSpec, seed: int, shape: Sequence[int]) -> Floats:
    """The noise of an image's sampler: what diffusers draws with ``generator`` and ``noise_sampler_seed`` both seed.

    dpmpp_sde follows a Brownian path of its own; dpmpp_2m_sde goes on where the initial latents ended.

    Args:
        spec: of the schedule.
        seed: 0 .. 2**64 - 1.
        shape: of one image's latents, (channels, height, width).

    Returns:
        float32 (draws, channels, height, width).
    """
    size = int(np.prod(shape))
    if spec.tree is not None:
        noise = sample_tree(spec.tree, seed, size)
    else:
        stream = NormalStream(seed)
        stream.draw(size)  # the initial latents
        noise = np.stack([stream.draw(size) for _ in range(spec.draws)])
    return noise.reshape(spec.draws, *shape)
