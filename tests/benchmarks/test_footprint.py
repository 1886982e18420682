"""The program whose start-up time and memory `benchmarks.footprint` measures."""

import sys
from pathlib import Path

from benchmarks.footprint import RUNTIME_PROGRAM, first_unet_call


def test_the_program_ends_at_the_first_call_of_the_unet(demo_bundle: Path, tmp_path: Path) -> None:
    seconds, peak = first_unet_call(Path(sys.executable), RUNTIME_PROGRAM, demo_bundle, tmp_path)
    assert 0 < seconds < 600
    assert peak > 20e6
    assert not list(tmp_path.iterdir()), "the program ends before it writes an image"
