"""Identity encoders: networks that give similar vectors for images of the same person.

The networks, their weights and their preprocessing come from packages. This module adds the protocol of the evaluation.
If an encoder's detector finds no face in an anonymized image, the image is cropped where the face of its original is,
because an attacker can see where the face must be. If it finds no face in the original either, the whole image is used.
The report counts the images without a face.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from anon_export.faces import Weights
from anon_runtime.types import Pixels

from .cache import Cache
from .pairs import ImageFile, Method
from .reidentification import Metric
from .requirements import Repository, data_of, digest, loading, require, torch_home
from .types import Mask, Vector

Points = NDArray[np.float64]  # (k, 2): x and y as shares of the image's width and height


class Encoder(Protocol):
    """An identity encoder."""

    @property
    def name(self) -> str:
        """Name of the encoder's row in the report."""
        ...

    @property
    def version(self) -> str:
        """Packages and weights that an embedding depends on."""
        ...

    @property
    def metric(self) -> Metric:
        """How embeddings are compared; see `reidentification.similarity`."""
        ...

    def locate(self, image: Pixels) -> Points | None:
        """Points of the biggest face; None if no face is found, and no points if the encoder uses whole images."""
        ...

    def embed(self, image: Pixels, points: Points | None) -> Vector:
        """The embedding (d,) of a face, or of the whole image where ``points`` is None."""
        ...


class Dlib:
    """dlib's ResNet on faces that are aligned by dlib's detector and five landmarks (King, 2017).

    The weights are in the public domain and come with the package face-recognition-models. Its files are read directly,
    because the package cannot be imported with a current setuptools.
    """

    name = "dlib ResNet"
    metric: Metric = "euclidean"

    def __init__(self) -> None:
        packages, _ = require(self.name, "dlib-bin", "face-recognition-models")
        import dlib

        folder = "face_recognition_models", "models"
        landmarks = data_of("face-recognition-models", *folder, "shape_predictor_5_face_landmarks.dat")
        network = data_of("face-recognition-models", *folder, "dlib_face_recognition_resnet_model_v1.dat")
        self.version = f"{packages} {digest(landmarks, network)}"
        self._dlib, self._detector = dlib, dlib.get_frontal_face_detector()
        with loading(self.name, landmarks, network):
            self._shape = dlib.shape_predictor(str(landmarks))
            self._network = dlib.face_recognition_model_v1(str(network))

    def locate(self, image: Pixels) -> Points | None:
        """Corners of the box and five landmarks; the image is doubled in size, so that faces of 40 pixels are found."""
        image = np.ascontiguousarray(image)  # dlib needs it
        boxes = self._detector(image, 1)
        if not boxes:
            return None
        shape = self._shape(image, max(boxes, key=lambda box: box.area()))
        box = shape.rect
        points = [(box.left(), box.top()), (box.right(), box.bottom()), *((p.x, p.y) for p in shape.parts())]
        return np.array(points, np.float64) / image.shape[1::-1]

    def embed(self, image: Pixels, points: Points | None) -> Vector:
        """128 numbers; two images of the same person have a distance below 0.6."""
        if points is None:
            chip = np.asarray(Image.fromarray(image).resize((150, 150), Image.Resampling.BILINEAR))
            return np.array(self._network.compute_face_descriptor(chip))
        (left, top), (right, bottom), *marks = (points * image.shape[1::-1]).round().astype(int).tolist()
        parts = self._dlib.points()
        for x, y in marks:
            parts.append(self._dlib.point(x, y))
        shape = self._dlib.full_object_detection(self._dlib.rectangle(left, top, right, bottom), parts)
        return np.array(self._network.compute_face_descriptor(np.ascontiguousarray(image), shape))


class Clip:
    """CLIP ViT-B/32 (Radford et al., 2021) on whole images, as transformers loads it."""

    name = "CLIP ViT-B/32"
    metric: Metric = "cosine"
    repository = Repository(
        "openai/clip-vit-base-patch32",
        (("config.json",), ("preprocessor_config.json",), ("pytorch_model.bin", "model.safetensors")),
    )

    def __init__(self) -> None:
        packages, paths = require(self.name, "transformers", repository=self.repository)
        from transformers import CLIPImageProcessor, CLIPModel

        self.version = f"{packages} {digest(*paths)}"
        with loading(self.name, paths[2]):
            self._processor = CLIPImageProcessor.from_pretrained(paths[0].parent)
            self._model: Any = CLIPModel.from_pretrained(paths[0].parent).eval()

    def locate(self, image: Pixels) -> Points:
        """No points, because the whole image is used."""
        return np.empty((0, 2))

    def embed(self, image: Pixels, points: Points | None) -> Vector:
        """512 numbers."""
        import torch

        with torch.no_grad():
            inputs = self._processor(images=image, return_tensors="pt")
            return np.asarray(self._model.get_image_features(**inputs)[0])


_FACENET = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9"


class FaceNet:
    """FaceNet's Inception-ResNet (Schroff et al., 2015) on faces that MTCNN crops, by the package facenet-pytorch.

    Args:
        data: data set that the network was trained on, a key of `trained`.
    """

    metric: Metric = "cosine"
    trained: ClassVar[Mapping[str, tuple[str, int]]] = {  # file and size in MB
        "VGGFace2": ("20180402-114759-vggface2.pt", 107),
        "CASIA-WebFace": ("20180408-102900-casia-webface.pt", 111),
    }

    def __init__(self, data: str) -> None:
        self.name = f"FaceNet, {data}"
        name, megabytes = self.trained[data]
        weights = Weights((name,), megabytes, _FACENET, lambda: torch_home() / "checkpoints")
        packages, (path,) = require(self.name, "facenet-pytorch", weights=[weights])
        from facenet_pytorch import MTCNN, InceptionResnetV1, extract_face, fixed_image_standardization

        self.version = f"{packages} {digest(path)}"
        self._detector, self._crop, self._standardize = MTCNN(), extract_face, fixed_image_standardization
        with loading(self.name, path):
            self._network = InceptionResnetV1(pretrained=data.lower()).eval()

    def locate(self, image: Pixels) -> Points | None:
        """Corners of the largest box."""
        boxes, _ = self._detector.detect(Image.fromarray(image))
        return None if boxes is None else np.array(boxes[0], np.float64).reshape(2, 2) / image.shape[1::-1]

    def embed(self, image: Pixels, points: Points | None) -> Vector:
        """512 numbers, as ``InceptionResnetV1(MTCNN(image))`` gives them."""
        import torch

        corners = np.array([[0, 0], [1, 1]]) if points is None else points
        box = (corners * image.shape[1::-1]).ravel()
        with torch.no_grad():
            face = self._standardize(self._crop(Image.fromarray(image), box, image_size=160, margin=0))
            return np.asarray(self._network(face[None])[0])


ENCODERS: dict[str, Callable[[], Encoder]] = {
    "CLIP ViT-B/32": Clip,
    "FaceNet, VGGFace2": partial(FaceNet, "VGGFace2"),
    "FaceNet, CASIA-WebFace": partial(FaceNet, "CASIA-WebFace"),
    "dlib ResNet": Dlib,
}


def cache_of(encoder: Encoder, folder: Path) -> Cache:
    """The cache of an encoder's outputs in a folder."""
    return Cache(folder / f"{encoder.name.replace(' ', '-').replace('/', '')}.npz", encoder.version)


class Embedded(NamedTuple):
    """Embeddings (n, d), and in which of the n images the encoder's detector finds no face."""

    vectors: Vector
    faceless: Mask


class Embedder:
    """Embeds images, with a cache of the embeddings."""

    def __init__(self, encoder: Encoder, cache: Cache) -> None:
        self._encoder, self._cache = encoder, cache

    def originals(self, images: Sequence[ImageFile], what: str = "originals") -> Embedded:
        """Embeddings of the gallery, or of other photos, whose name in the progress bar is ``what``."""
        return self._embed([(image, None) for image in images], what)

    def method(self, originals: Sequence[ImageFile], method: Method) -> Embedded:
        """Embeddings of the queries, in the order of the method's pairs."""
        return self._embed([(image, originals[i]) for i, image in method.pairs.items()], method.name)

    def _embed(self, images: Sequence[tuple[ImageFile, ImageFile | None]], what: str) -> Embedded:
        vectors: list[Vector] = []
        faceless: list[bool] = []
        for image, original in tqdm(images, desc=f"{self._encoder.name}: {what}", unit="image"):
            points = self._locate(image)
            faceless.append(points is None)
            key = image.digest
            if points is None and original is not None:
                points, key = self._locate(original), f"{image.digest} {original.digest}"
            vectors.append(self._cache.get(key, partial(self._embed_image, image, points)))
        self._cache.save()
        return Embedded(np.stack(vectors), np.array(faceless, bool))

    def _embed_image(self, image: ImageFile, points: Points | None) -> Vector:
        return self._encoder.embed(image.pixels(), points)

    def _locate(self, image: ImageFile) -> Points | None:
        """The points of the biggest face; the cache holds NaN where no face is found."""
        nowhere = np.full((1, 2), np.nan)

        def find() -> Points:
            points = self._encoder.locate(image.pixels())
            return nowhere if points is None else points

        points = np.asarray(self._cache.get(f"face {image.digest}", find), np.float64)
        return None if np.isnan(points).any() else points
