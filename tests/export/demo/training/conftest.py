"""Made-up training data."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anon_export.demo.training.data import Photos, load_photos
from anon_runtime.faces.attributes import CELEBA


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty labelled images of coarse noise; the last one is the first, a little darker."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (12, 12, 3), dtype=np.uint8) for _ in range(19)]
    rows = []
    for i, image in enumerate([*noise, (noise[0] * 0.9).astype(np.uint8)]):
        Image.fromarray(image).resize((256, 256), Image.Resampling.BICUBIC).save(folder / "photos" / f"{i:03}.png")
        points = {f"{p}_{a}": 100 for p in ("right_eye", "left_eye", "nose", "right_mouth", "left_mouth") for a in "xy"}
        row = {"file": f"{i:03}.png", "age": 30, "ethnicity": "asian"} | {f"box_{key}": 60 for key in "xywh"} | points
        rows.append(row | dict.fromkeys(CELEBA, i % 2) | {"Attractive": ""})
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture(scope="module")
def photos(folder: Path) -> Photos:
    return load_photos(folder)
