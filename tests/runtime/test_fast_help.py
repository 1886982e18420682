"""The help of ``--fast``, with bundles whose price was measured and with others."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.manifest import MANIFEST, LevelCost, LevelCosts
from anon_runtime.fast_help import describe_levels, write_help

COSTS = LevelCosts(
    "a processor",
    16,
    {"1": LevelCost(1.17, 23.14, 0.968, 1.0), "2": LevelCost(3.04, 20.2, 0.9512, 0.5)},
    LevelCost(1.01, 14.9, 0.92, 1.0),
)


@pytest.fixture
def measured(own_bundle: Path) -> Path:
    """A bundle whose levels were measured."""
    manifest = replace(Bundle.read(own_bundle).manifest, levels=COSTS)
    (own_bundle / MANIFEST).write_text(manifest.to_json())
    return own_bundle


def test_a_price_is_one_sentence() -> None:
    assert describe_levels(COSTS) == (
        "1 is 1.2 times as fast, 96.8 % alike; 2 is 3.0 times as fast, 95.1 % alike; exact images of other seeds, "
        "92.0 % alike (the UNet's time; attributes that are read alike from the exact images; 16 of each; a processor)"
    )
    faceless = {level: replace(cost, agreement=None, one_face=None) for level, cost in COSTS.levels.items()}
    costs = replace(COSTS, levels=faceless, other_seeds=replace(COSTS.other_seeds, agreement=None))
    assert describe_levels(costs) == (
        "1 is 1.2 times as fast, 23.1 dB; 2 is 3.0 times as fast, 20.2 dB; exact images of other seeds, 14.9 dB (the "
        "UNet's time; PSNR to the exact images; 16 of each; a processor)"
    )


def test_the_help_has_the_price_of_the_bundle(measured: Path) -> None:
    assert f"Measured with {measured}: 1 is 1.2 times as fast" in write_help(measured)
    assert "the demo; with other seeds" not in write_help(measured)


def test_a_bundle_that_was_not_measured_or_is_damaged_leaves_the_general_price(
    own_bundle: Path, tmp_path: Path
) -> None:
    general = write_help(own_bundle)
    assert "an AUC of 0.889 with 0" in general
    assert write_help(tmp_path / "missing") == general
    (own_bundle / MANIFEST).write_text("{")
    assert write_help(own_bundle) == general


def test_the_command_shows_the_price_of_the_bundle_that_it_is_given(measured: Path) -> None:
    texts = []
    for arguments in (["--engines", str(measured), "--help"], ["--help"]):
        command = [sys.executable, "-c", "from anon_runtime.cli import main; main()", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=measured.parent)
        texts.append(re.sub(r"\s+", " ", done.stdout))
    assert "2 is 3.0 times as fast, 95.1 % alike" in texts[0]
    assert "2 is 3.0 times as fast" not in texts[1]
    assert all("Levels 2 and 3 need a bundle built with --deepcache" in text for text in texts)
