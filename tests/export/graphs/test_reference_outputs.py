from pathlib import Path

import numpy as np
import pytest

from anon_export.graphs.reference_outputs import (
    merge_reference_outputs,
    read_reference_outputs,
    write_reference_outputs,
)
from anon_runtime.errors import BundleError


def test_the_outputs_of_several_networks_are_merged(tmp_path: Path) -> None:
    image = np.ones(3, np.float32)
    for name in ("age", "race"):
        write_reference_outputs(tmp_path / f"{name}.npz", {"image": image}, {name: image})
    merge_reference_outputs([tmp_path / "age.npz", tmp_path / "race.npz"], tmp_path / "both.npz")
    inputs, outputs = read_reference_outputs(tmp_path / "both.npz")
    assert inputs.keys() == {"image"}
    assert outputs.keys() == {"age", "race"}


@pytest.mark.parametrize("content", [None, b"", b"no archive", b"PK\x03\x04 half an archive"])
def test_files_that_cannot_be_read_are_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "check.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleError, match=r"check\.npz: it cannot be read .*build it again") as caught:
        read_reference_outputs(path)
    assert "\n" not in str(caught.value)
