"""DeepFace's emotion, gender and race, compared with its networks."""

from pathlib import Path

import numpy as np
import torch

from anon_runtime.types import Pixels
from benchmarks.evaluate.predictors import DeepFaceDemography


def test_a_reading_is_deepfaces_networks(deepface: Path, photos: list[Pixels]) -> None:
    """The inputs follow DeepFace's documentation: grey 48 x 48 for emotion, letterboxed BGR 224 x 224 otherwise."""
    import cv2
    from deepface.models.demography.pytorch import Emotion, Gender, Race

    from anon_runtime.faces.geometry import letterbox

    crop = photos[0][58:176, 180:271]
    boxed = letterbox(crop, 224)[..., ::-1].astype(np.float32) / 255
    grey = cv2.resize(cv2.cvtColor(boxed, cv2.COLOR_BGR2GRAY), (48, 48))
    whole = torch.from_numpy(np.ascontiguousarray(boxed.transpose(2, 0, 1)))[None]
    with torch.no_grad():
        expected = [
            Emotion.load_model().eval()(torch.from_numpy(grey)[None, None])[0].numpy(),
            Race.load_model().eval()(whole)[0].numpy(),
            Gender.load_model().eval()(whole)[0].numpy(),
        ]
    found = DeepFaceDemography().read(crop)
    assert found.shape == (len(DeepFaceDemography.columns),)
    np.testing.assert_allclose(found, np.concatenate(expected), atol=2e-3)
    assert found.std() > 0.01, "the scores differ, so the comparison means something"


def test_labels_are_deepfaces(random_face_weights: Path) -> None:
    from deepface.models.demography.DemographyUtils import EMOTION_LABELS, GENDER_LABELS, RACE_LABELS

    assert list(DeepFaceDemography.columns) == [*EMOTION_LABELS, *RACE_LABELS, *GENDER_LABELS]
