"""torch's normal random numbers in numpy, equal in every bit.

torch draws them with mt19937 and the Box-Muller transform. It computes the logarithm, sine and cosine with its own
polynomials (`avx_mathfun.h`, after Cephes), which are compiled to fused multiply-adds. A fused multiply-add rounds
once, whereas two operations of numpy round twice. It is computed here in double precision, which holds the product of
two float32 numbers exactly. Sources: pytorch, ``aten/src/ATen/native/cpu/DistributionTemplates.h``
(``normal_fill_AVX2``, ``normal_fill_16``), ``avx_mathfun.h`` and ``ATen/core/DistributionsHelper.h``; Pommier's
``sse_mathfun``; Moshier's Cephes.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..types import Doubles, Floats

Words = NDArray[np.uint32]

_BLOCK = 16  # torch draws normal numbers in blocks of 16: 8 cosines, then 8 sines
_HALF_BLOCK = np.dtype("V32")  # 8 numbers of 4 bytes


class NormalStream:
    """The normal numbers of ``torch.Generator("cpu").manual_seed(seed)``, in the order in which torch draws them.

    Args:
        seed: the seed; its low 32 bits are the seed of mt19937.
    """

    def __init__(self, seed: int) -> None:
        words = np.random.MT19937()
        self._words = np.random.Generator(words)
        self._state = np.random.RandomState(words)  # seeds mt19937 in the same way as torch
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Restart the stream with another seed, which takes less time than a new stream."""
        self._state.seed(seed & 0xFFFFFFFF)
        self._spare: float | None = None

    def draw(self, size: int) -> Floats:
        """Return the next ``torch.randn(size)``: float32 (size,)."""
        return self._draw_few(size) if size < _BLOCK else self._draw_many(size)

    def words(self, count: int) -> Words:
        """Return the next random 32-bit words: uint32 (count,)."""
        return self._words.integers(0, 1 << 32, count, dtype=np.uint32)

    def _draw_many(self, size: int) -> Floats:
        rest = size % _BLOCK
        values = interleave(box_muller(self.words(size)[: size - rest]))
        if rest:
            # As in torch, the last 16 values are drawn again, although a part of them belongs to the last full block.
            last = interleave(box_muller(self.words(_BLOCK)))
            values = np.concatenate([values[: size - _BLOCK], last])
        return values

    def _draw_few(self, size: int) -> Floats:
        return np.array([self._draw_one() for _ in range(size)], dtype=np.float32)

    def _draw_one(self) -> float:
        """Return the next number of the Box-Muller transform in double precision, which gives two numbers at a time."""
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


def seeded_normals(seeds: Sequence[int], size: int) -> Iterator[Floats]:
    """Yield ``torch.randn(size)`` for each seed, in the order of `box_muller` if ``size`` is a multiple of 16.

    Sums can be taken in that order as well, so that the values are interleaved only once, after the sums.

    Args:
        seeds: the seeds, of which the low 32 bits are used.
        size: the number of values for each seed.

    Yields:
        float32 (2, size / 2) before `interleave` if ``size`` is a multiple of 16, otherwise float32 (size,) in torch's
        order. An array is valid only until the next one is drawn.
    """
    stream = NormalStream(0)
    if size % _BLOCK:
        for seed in seeds:
            stream.reseed(seed)
            yield stream.draw(size)
        return
    # Four vectors at a time are enough to outweigh the cost of a numpy call, and few enough to stay in the cache.
    words = np.empty((4, size), np.uint32)
    for start in range(0, len(seeds), len(words)):
        some = seeds[start : start + len(words)]
        for row, seed in zip(words, some, strict=False):
            stream.reseed(seed)
            row[:] = stream.words(size)
        yield from box_muller(words[: len(some)]).swapaxes(0, 1)


def box_muller(words: Words) -> Floats:
    """Return normal numbers from random words, paired in the same way as in torch.

    In each block of 16 words, the low 24 bits of word j (j < 8) give the radius and the low 24 bits of word j + 8 give
    the angle.

    Args:
        words: uint32 (..., size), where size is a multiple of 16. Its memory is overwritten, because new memory for
            each operation would take longer than the operation itself.

    Returns:
        float32 (2, ..., size / 2): ``radius * cos(angle)`` and ``radius * sin(angle)``. `interleave` brings them into
        torch's order.
    """
    words &= np.uint32(0xFFFFFF)
    # Halves of a block are moved as items of 32 bytes, because numpy's loops over runs of 8 numbers are three times
    # slower.
    halves = np.empty((2, words.size // 2), np.uint32)
    halves.view(_HALF_BLOCK)[:] = words.view(_HALF_BLOCK).reshape(-1, 2).T
    radius, angle = uniform = words.view(np.float32).reshape(halves.shape)
    uniform[:] = halves.view(np.int32)
    # The radius needs 1 - u and the angle 2 pi u, with u = word * 2**-24. A power of two does not change the rounding.
    np.subtract(np.float32(2**24), radius, out=radius)
    radius *= np.float32(2.0**-24)
    log_in_place(radius)
    radius *= np.float32(-2)
    np.sqrt(radius, out=radius)
    angle *= np.float32(2 * np.pi) * np.float32(2.0**-24)
    pairs = halves.view(np.float32)
    cos_sin(angle, pairs[0], pairs[1])
    pairs *= radius
    return pairs.reshape(2, *words.shape[:-1], words.shape[-1] // 2)


def interleave(pairs: Floats) -> Floats:
    """Bring the cosines and sines of `box_muller` into torch's order: 8 cosines and 8 sines in turn.

    Args:
        pairs: float32 (2, ..., size / 2).

    Returns:
        float32 (..., size).
    """
    values = np.empty((*pairs.shape[1:-1], 2 * pairs.shape[-1]), np.float32)
    values.view(_HALF_BLOCK).reshape(-1, 2).T[:] = np.ascontiguousarray(pairs).view(_HALF_BLOCK).reshape(2, -1)
    return values


_SQRT_HALF_BITS = 0x3F3504F3
_LOG = np.array(
    [7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
     2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1], np.float32,
)  # fmt: skip
_LN2_LOW, _LN2_HIGH = np.float32(-2.12194440e-4), np.float32(0.693359375)


def log_in_place(x: Floats) -> None:
    """Replace positive (and not subnormal) numbers by their natural logarithms, computed as in ``log256_ps``.

    A number is written as x = 2**e * (1 + m), and a polynomial in m gives the logarithm of 1 + m.
    """
    bits = x.view(np.int32)
    exponent = bits - _SQRT_HALF_BITS
    exponent >>= 23
    bits -= exponent << 23
    x -= np.float32(1)  # m, from sqrt(1/2) - 1 to sqrt(2) - 1
    e = exponent.astype(np.float32)
    z, wide = x * x, x.astype(np.float64)
    y, scratch = polynomial(_LOG, wide)
    y *= x
    # y * z + e * low, as a fused multiply-add.
    scratch[:] = y
    wide[:] = z
    scratch *= wide
    wide[:] = e * _LN2_LOW
    scratch += wide
    y[:] = scratch
    z *= np.float32(0.5)
    y -= z
    x += y
    e *= _LN2_HIGH
    x += e


_QUARTERS = np.float32(4 / np.pi)
_PI_4 = (np.float32(0.78515625), np.float32(2.4187564849853515625e-4), np.float32(3.77489497744594108e-8))
_SIN = np.array([-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1], np.float32)
_COS = np.array([2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2], np.float32)


def cos_sin(x: Floats, cosine: Floats, sine: Floats) -> None:
    """Compute the cosine and sine of angles in [0, 2 pi], as in ``sincos256_ps``.

    A multiple of pi/2 is subtracted from the angle to bring it into [-pi/4, pi/4], and the octant decides which
    polynomial gives the cosine and which one the sine.

    Args:
        x: the angles in radians; the array is overwritten.
        cosine: the array that the cosines are written to.
        sine: the array that the sines are written to.
    """
    octant = (x * _QUARTERS).astype(np.int32)
    octant += 1
    octant &= ~1
    j = octant.astype(np.float32)
    # The products with the first two parts of pi / 4 are exact; the third step has to be a fused multiply-add.
    x -= j * _PI_4[0]
    x -= j * _PI_4[1]
    wide = j.astype(np.float64)
    wide *= -np.float64(_PI_4[2])
    scratch = x.astype(np.float64)
    scratch += wide
    x[:] = scratch
    z = x * x
    wide[:] = z
    even, scratch = polynomial(_COS, wide)
    even *= z
    # even * z - z / 2 as a fused multiply-add, and then + 1.
    scratch[:] = even
    scratch -= 0.5
    scratch *= wide
    even[:] = scratch
    even += np.float32(1)
    odd, _ = polynomial(_SIN, wide)
    odd *= z
    # odd * x + x, as a fused multiply-add.
    scratch[:] = odd
    scratch += 1
    wide[:] = x
    scratch *= wide
    odd[:] = scratch
    # Exchange the two where bit 1 of the octant is set. The sine is negative from octant 4 on, the cosine in octants 2
    # to 5.
    exchange = octant & 2
    exchange <<= 30
    exchange >>= 31
    even_bits, odd_bits = even.view(np.int32), odd.view(np.int32)
    exchange &= even_bits ^ odd_bits
    np.bitwise_xor(odd_bits, exchange, out=sine.view(np.int32))
    np.bitwise_xor(even_bits, exchange, out=cosine.view(np.int32))
    sine.view(np.int32)[:] ^= (octant & 4) << 29
    octant += 2
    octant &= 4
    octant <<= 29
    cosine.view(np.int32)[:] ^= octant


def polynomial(coefficients: Floats, x: Doubles) -> tuple[Floats, Doubles]:
    """Evaluate a polynomial by Horner's scheme, whose steps are fused multiply-adds in single precision.

    Args:
        coefficients: float32, the coefficient of the highest power first.
        x: float64, the arguments, with values that float32 can represent.

    Returns:
        The values as float32, and a float64 array of the same shape that the caller may overwrite.
    """
    scratch = x * np.float64(coefficients[0])
    scratch += coefficients[1]
    y = scratch.astype(np.float32)
    for coefficient in coefficients[2:]:
        scratch[:] = y
        scratch *= x
        scratch += coefficient
        y[:] = scratch
    return y, scratch
