"""torch's normal numbers in numpy, bit for bit.

torch draws them with mt19937 and the Box-Muller transform, whose logarithm, sine and cosine are polynomials of its own
(`avx_mathfun.h`, after Cephes), compiled to fused multiply-adds. A fused multiply-add rounds once where numpy's two
operations round twice; it is computed here in double precision, which holds the product of two floats exactly.
Sources: pytorch, ``aten/src/ATen/native/cpu/DistributionTemplates.h`` (``normal_fill_AVX2``, ``normal_fill_16``),
``avx_mathfun.h`` and ``ATen/core/DistributionsHelper.h``; Pommier's ``sse_mathfun``; Moshier's Cephes.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..types import Doubles, Floats

Words = NDArray[np.uint32]

_BLOCK = 16  # torch draws normal numbers in blocks of 16: 8 cosines, then 8 sines
_HALF_BLOCK = np.dtype("V32")  # 8 numbers of 4 bytes


class NormalStream:
    """The normal numbers of ``torch.Generator("cpu").manual_seed(seed)``, in the order in which they are drawn.

    mt19937 is seeded with the low 32 bits of the seed.
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


def box_muller(words: Words) -> Floats:
    """Normal numbers from random words (..., size), size a multiple of 16, paired as torch pairs them.

    In each block of 16 the low 24 bits of word j (j < 8) give the radius and those of word j + 8 the angle.

    Returns:
        ``radius * cos(angle)`` and ``radius * sin(angle)``, (2, ..., size / 2); `interleave` brings them into torch's
        order. The memory of ``words`` is overwritten: fresh memory for each step would take longer than the step.
    """
    words &= np.uint32(0xFFFFFF)
    # Halves of a block are moved as items of 32 bytes: numpy's loops over runs of 8 numbers are three times slower.
    halves = np.empty((2, words.size // 2), np.uint32)
    halves.view(_HALF_BLOCK)[:] = words.view(_HALF_BLOCK).reshape(-1, 2).T
    radius, angle = uniform = words.view(np.float32).reshape(halves.shape)
    uniform[:] = halves.view(np.int32)
    # 1 - u and 2 pi u for u = word * 2**-24; the power of two changes no rounding.
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
    """Bring cosines and sines (2, ..., size / 2) into torch's order (..., size): 8 of each in turn."""
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
    """Natural logarithm of positive normal numbers, as ``log256_ps``: x = 2**e * (1 + m), a polynomial in m."""
    bits = x.view(np.int32)
    exponent = bits - _SQRT_HALF_BITS
    exponent >>= 23
    bits -= exponent << 23
    x -= np.float32(1)  # m, from sqrt(1/2) - 1 to sqrt(2) - 1
    e = exponent.astype(np.float32)
    z, wide = x * x, x.astype(np.float64)
    y, scratch = polynomial(_LOG, wide)
    y *= x
    # y * z + e * low, fused.
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
    """Cosine and sine of angles in [0, 2 pi], as ``sincos256_ps``; ``x`` is overwritten.

    The angle is brought to [-pi/4, pi/4] by a multiple of pi/2, and the octant says which polynomial is which.
    """
    octant = (x * _QUARTERS).astype(np.int32)
    octant += 1
    octant &= ~1
    j = octant.astype(np.float32)
    # The products with the first two parts of pi / 4 are exact; the third step has to be fused.
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
    # even * z - z / 2, fused, and then + 1.
    scratch[:] = even
    scratch -= 0.5
    scratch *= wide
    even[:] = scratch
    even += np.float32(1)
    odd, _ = polynomial(_SIN, wide)
    odd *= z
    # odd * x + x, fused.
    scratch[:] = odd
    scratch += 1
    wide[:] = x
    scratch *= wide
    odd[:] = scratch
    # Exchange the two where bit 1 of the octant is set; the sine is negative from octant 4 on, the cosine from 2 to 5.
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
    """Horner's scheme in fused single-precision steps; also returns the scratch space it used."""
    scratch = x * np.float64(coefficients[0])
    scratch += coefficients[1]
    y = scratch.astype(np.float32)
    for coefficient in coefficients[2:]:
        scratch[:] = y
        scratch *= x
        scratch += coefficient
        y[:] = scratch
    return y, scratch
