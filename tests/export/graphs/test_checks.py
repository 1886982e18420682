from pathlib import Path

import numpy as np
import pytest

from anon_export.graphs.checks import merge_checks, read_check, write_check
from anon_runtime.errors import BundleError


def test_checks_of_several_networks_are_kept_together(tmp_path: Path) -> None:
    image = np.ones(3, np.float32)
    for name in ("age", "race"):
        write_check(tmp_path / f"{name}.npz", {"image": image}, {name: image})
    merge_checks([tmp_path / "age.npz", tmp_path / "race.npz"], tmp_path / "both.npz")
    inputs, outputs = read_check(tmp_path / "both.npz")
    assert inputs.keys() == {"image"} and outputs.keys() == {"age", "race"}


@pytest.mark.parametrize("content", [None, b"", b"no archive", b"PK\x03\x04 half an archive"])
def test_files_that_cannot_be_read_are_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "check.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleError, match="check.npz: it cannot be read .*build it again") as caught:
        read_check(path)
    assert "\n" not in str(caught.value)
