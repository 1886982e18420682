"""Identity encoders: an image of a face -> a vector that is alike for images of one person.

The networks, their weights and their preprocessing are the packages' own. What is written here is the protocol: a face
that an encoder's detector does not find in an anonymized image is cropped where the face of its original is, as an
attacker who sees where the face must be would crop it; if the original shows none either, the whole image is the
crop. Both are counted.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from anon_export.faces import Weights

from .cache import Cache, Vector
from .pairs import ImageFile, Method
from .requirements import Repository, data_of, digest, loading, need, torch_home

Pixels = NDArray[np.uint8]
Points = NDArray[np.float64]  # (k, 2): x and y as shares of the image's width and height


class Encoder(Protocol):
    """An identity encoder.

    Attributes:
        name: of its row.
        version: packages and weights that an embedding depends on.
        metric: see `reidentification.similarity`.
    """

    name: str
    version: str
    metric: str

    def locate(self, image: Pixels) -> Points | None:
        """Where the biggest face is; None if there is none, and no points if the whole image is looked at."""

    def embed(self, image: Pixels, points: Points | None) -> Vector:
        """The vector (d,) of a face; of the whole image where there are no points."""


class Dlib:
    """dlib's ResNet on faces that its own detector and five landmarks align (King, 2017); weights in the public domain.

    The networks are those of the package face-recognition-models, which cannot be imported with a current setuptools;
    its files are found without.
    """

    name, metric = "dlib ResNet", "euclidean"

    def __init__(self) -> None:
        packages, _ = need(self.name, "dlib-bin", "face-recognition-models")
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
        """Corners of the box and five landmarks; images are doubled first, so that faces of 40 pixels are found."""
        image = np.ascontiguousarray(image)  # dlib takes no other
        boxes = self._detector(image, 1)
        if not boxes:
            return None
        shape = self._shape(image, max(boxes, key=lambda box: box.area()))
        box = shape.rect
        points = [(box.left(), box.top()), (box.right(), box.bottom()), *((p.x, p.y) for p in shape.parts())]
        return np.array(points, np.float64) / image.shape[1::-1]

    def embed(self, image: Pixels, points: Points | None) -> Vector:
        """128 numbers; the same person is closer than 0.6."""
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

    name, metric = "CLIP ViT-B/32", "cosine"
    repository = Repository(
        "openai/clip-vit-base-patch32",
        (("config.json",), ("preprocessor_config.json",), ("pytorch_model.bin", "model.safetensors")),
    )

    def __init__(self) -> None:
        packages, paths = need(self.name, "transformers", repository=self.repository)
        from transformers import CLIPImageProcessor, CLIPModel

        self.version = f"{packages} {digest(*paths)}"
        with loading(self.name, paths[2]):
            self._processor = CLIPImageProcessor.from_pretrained(paths[0].parent)
            self._model: Any = CLIPModel.from_pretrained(paths[0].parent).eval()

    def locate(self, image: Pixels) -> Points:
        """Nothing is looked for."""
        return np.empty((0, 2))

    def embed(self, image: Pixels, points: Points | None) -> Vector:
        """512 numbers."""
        import torch

        with torch.no_grad():
            inputs = self._processor(images=image, return_tensors="pt")
            return np.asarray(self._model.get_image_features(**inputs)[0])


_FACENET = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9"


class FaceNet:
    """FaceNet's Inception-ResNet (Schroff et al., 2015) on crops of MTCNN, both of the package facenet-pytorch."""

    metric = "cosine"
    trained = {
        "VGGFace2": ("20180402-114759-vggface2.pt", 107),
        "CASIA-WebFace": ("20180408-102900-casia-webface.pt", 111),
    }

    def __init__(self, data: str) -> None:
        self.name = f"FaceNet, {data}"
        name, megabytes = self.trained[data]
        weights = Weights((name,), megabytes, _FACENET, lambda: torch_home() / "checkpoints")
        packages, (path,) = need(self.name, "facenet-pytorch", weights=[weights])
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
    "FaceNet, VGGFace2": lambda: FaceNet("VGGFace2"),
    "FaceNet, CASIA-WebFace": lambda: FaceNet("CASIA-WebFace"),
    "dlib ResNet": Dlib,
}


class Embedded(NamedTuple):
    """Vectors (n, d), and which of the n images show no face to the encoder's detector."""

    vectors: Vector
    faceless: NDArray[np.bool_]


class Embedder:
    """Embeds images, each once: what an encoder said of an image is kept in a cache."""

    def __init__(self, encoder: Encoder, cache: Cache) -> None:
        self._encoder, self._cache = encoder, cache

    def originals(self, images: Sequence[ImageFile]) -> Embedded:
        """The gallery."""
        return self._embed([(image, None) for image in images], "originals")

    def method(self, originals: Sequence[ImageFile], method: Method) -> Embedded:
        """The queries, in the order of the method's pairs."""
        return self._embed([(image, originals[i]) for i, image in method.pairs.items()], method.name)

    def _embed(self, images: Sequence[tuple[ImageFile, ImageFile | None]], what: str) -> Embedded:
        vectors, faceless = [], []
        for image, original in tqdm(images, desc=f"{self._encoder.name}: {what}", unit="image"):
            points = self._locate(image)
            faceless.append(points is None)
            key = image.digest
            if points is None and original is not None:
                points, key = self._locate(original), f"{image.digest} {original.digest}"
            vectors.append(self._cache.get(key, lambda p=image, at=points: self._encoder.embed(p.pixels(), at)))
        self._cache.save()
        return Embedded(np.stack(vectors), np.array(faceless, bool))

    def _locate(self, image: ImageFile) -> Points | None:
        """NaN in the cache stands for no face, as an array without points says that none is looked for."""
        nowhere = np.full((1, 2), np.nan)

        def find() -> Points:
            points = self._encoder.locate(image.pixels())
            return nowhere if points is None else points

        points = self._cache.get(f"face {image.digest}", find)
        return None if np.isnan(points).any() else points
