import threading
from pathlib import Path

import numpy as np
import pytest

from anon_runtime import Anonymizer, Request, Settings
from anon_runtime.bundle import bundle, integrity
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.integrity import FileRecord, Inspection, find_damages, sha256
from anon_runtime.errors import BundleError
from tests.runtime.stand_ins import StandInEngines

SHORT = Settings(steps=1, guidance_scale=1)


@pytest.fixture
def hidden_damage(own_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle with one wrong bit in the weights of the UNet; all of its files count as large."""
    monkeypatch.setattr(bundle, "LARGE", 1)
    path = own_bundle / "unet" / "model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return own_bundle


def test_no_result_leaves_a_bundle_with_damaged_weights(hidden_damage: Path, astronaut: Path) -> None:
    with pytest.raises(BundleError, match=r"unet/model.onnx: this file is not the one that was built"):
        Anonymizer.load(hidden_damage, SHORT).generate([Request("portrait of a woman")])
    with pytest.raises(BundleError, match=r"unet/model.onnx"):
        Anonymizer.load(hidden_damage).describe(astronaut)
    assert Anonymizer.load(hidden_damage, SHORT, checksum=False).generate([Request("portrait of a woman")])


def test_damage_that_makes_nan_is_called_damage(hidden_damage: Path) -> None:
    opened = Bundle.read(hidden_damage)
    engines = StandInEngines(opened, inspection=opened.check())
    unet = engines["unet"]
    engines.interfere(
        "unet", lambda _, inputs: {name: np.full_like(value, np.nan) for name, value in unet(inputs).items()}
    )
    with pytest.raises(BundleError, match="not the one that was built"):
        Anonymizer.of(engines, SHORT).generate([Request("portrait of a woman")])


def test_engines_start_before_their_weights_are_hashed(demo_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called, real = threading.Event(), integrity.sha256

    def late(path: Path) -> str:
        assert called.wait(60)  # waits until the UNet has run
        return real(path)

    monkeypatch.setattr(integrity, "sha256", late)
    monkeypatch.setattr(bundle, "LARGE", 0)
    generator = Anonymizer.load(demo_bundle, SHORT).generator
    states = generator.denoise([Request("portrait of a woman")])
    latents = [state.latents for state in states][-1]
    called.set()
    assert generator.decode(latents).shape[0] == 1


def test_a_file_that_cannot_be_read_is_no_intact_file(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="gone: it cannot be read"):
        Inspection(tmp_path, {"gone": FileRecord("", 0)}).finish()


def test_damages(tmp_path: Path) -> None:
    for name in ("good", "longer", "other"):
        (tmp_path / name).write_text(name)
    good = FileRecord(sha256(tmp_path / "good"), 4)
    files = {"good": good, "longer": good, "other": FileRecord(good.sha256, 5), "none": good}
    damages = find_damages(tmp_path, files)
    assert {name: why.partition("(")[2] or why for name, why in damages.items()} == {
        "longer": "its size differs)",
        "other": "its sha256 differs)",
        "none": "this file of the bundle is missing",
    }
    assert set(find_damages(tmp_path, files, checksum=False)) == {"longer", "none"}
