"""Known numbers of `torch.randn`, for machines without torch; `benchmarks.exactness` compares many more."""

import numpy as np
import pytest

from anon_runtime.diffusion.torch_rng import NormalStream, interleave, seeded_normals

# torch.randn(5) and torch.randn(20) with torch.Generator().manual_seed(0)
FEW = [1.5409960746765137, -0.293428897857666, -2.1787893772125244, 0.5684312582015991, -1.0845223665237427]
MANY = [
    -1.1258398294448853, -1.152360200881958, -0.2505785822868347, -0.4338788092136383, 0.5988394618034363,
    -1.5550950765609741, -0.3413603901863098, 1.85300612449646, 0.46809640526771545, -0.1577124446630478,
    1.4436601400375366, 0.26604941487312317, 1.3893661499023438, 1.586334228515625, 0.946298360824585,
    -0.843676745891571, 0.9318265914916992, 1.2590092420578003, 2.0049805641174316, 0.05373690277338028,
]  # fmt: skip


@pytest.mark.parametrize("expected", [FEW, MANY])
def test_numbers_are_those_of_torch(expected: list[float]) -> None:
    stream = NormalStream(1)
    stream.draw(3)
    stream.reseed(0)
    np.testing.assert_allclose(stream.draw(len(expected)), expected, rtol=1e-6)


def test_a_seed_counts_by_its_low_32_bits() -> None:
    np.testing.assert_allclose(NormalStream(2**64 - 1).draw(2), [1.2197630405426025, -0.3929794728755951], rtol=1e-6)
    np.testing.assert_array_equal(NormalStream(2**64 - 1).draw(2), NormalStream(2**32 - 1).draw(2))


@pytest.mark.parametrize("size", [5, 20, 64])
def test_numbers_of_many_seeds_are_those_of_each_seed(size: int) -> None:
    seeds = [3, 1, 4, 1, 5, 9]
    for seed, values in zip(seeds, seeded_normals(seeds, size), strict=True):
        own = values if size % 16 else interleave(values)
        np.testing.assert_array_equal(own, NormalStream(seed).draw(size))
