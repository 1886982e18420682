import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from anon_export.models.tensor_shapes import read_shapes
from anon_runtime.errors import AnonError

SHAPES = st.dictionaries(st.text("abc.", min_size=1, max_size=5), st.lists(st.integers(0, 4), max_size=3), max_size=4)
KINDS = st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64])


@given(shapes=SHAPES, kind=KINDS, wrapped=st.booleans())
def test_shapes_are_read_whatever_the_precision(
    tmp_path_factory: pytest.TempPathFactory, shapes: dict[str, list[int]], kind: torch.dtype, wrapped: bool
) -> None:
    folder = tmp_path_factory.mktemp("weights")
    tensors = {name: torch.zeros(shape, dtype=kind) for name, shape in shapes.items()}
    save_file(tensors, folder / "a.safetensors")
    torch.save({"state_dict": tensors, "epoch": 3} if wrapped else tensors, folder / "a.ckpt")
    expected = {name: tuple(shape) for name, shape in shapes.items()}
    assert read_shapes(folder / "a.safetensors") == expected
    assert read_shapes(folder / "a.ckpt") == expected


def test_a_large_pickle_is_not_read_into_memory(tmp_path: Path) -> None:
    """A tensor without values has a shape, and torch's meta device asks for no memory."""
    torch.save({"a": torch.zeros(300, 1000)}, tmp_path / "a.bin")
    content = torch.load(tmp_path / "a.bin", map_location="meta", weights_only=True)
    assert content["a"].is_meta
    assert math.prod(read_shapes(tmp_path / "a.bin")["a"]) == 300_000


def test_pickles_that_are_not_plain_tell_nothing_and_run_nothing(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"a": torch.zeros(3), "trap": Trap()}, tmp_path / "a.ckpt")
    assert read_shapes(tmp_path / "a.ckpt") == {}
    assert not (tmp_path / "ran").exists()
    (tmp_path / "b.bin").write_bytes(b"no pickle")
    assert read_shapes(tmp_path / "b.bin") == {}


def test_a_broken_safetensors_file_is_named(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(300)}, tmp_path / "a.safetensors")
    path = tmp_path / "a.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(AnonError, match=r"no intact safetensors file.*download it again"):
        read_shapes(path)
