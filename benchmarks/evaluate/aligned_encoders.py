"""Identity encoders on faces that the bundle's own detector finds and aligns by five landmarks, as ArcFace does.

They are the bundle's own face-recognition network, which is the guard's network where the guard was on, and any network
that a user has in an ONNX file.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from PIL import Image

from anon_export.identity import SIZE, Encoder, read_network, start_session
from anon_runtime import Anonymizer
from anon_runtime.bundle.identity import IdentitySpec
from anon_runtime.bundle.integrity import REBUILD
from anon_runtime.bundle.manifest import MANIFEST
from anon_runtime.errors import AnonError, PhotoError, first_line
from anon_runtime.faces.detection import Face, biggest_face
from anon_runtime.faces.identity import IdentityEncoder, identity_crop
from anon_runtime.faces.reader import FaceReader
from anon_runtime.types import Pixels

from .encoders import Points
from .reidentification import Metric
from .requirements import MissingError, digest
from .types import Vector

GUARD = "the guard's network"
LEVELS = 127.5  # half of the levels of brightness: (RGB - 127.5) / 127.5 lies in -1..1


class AlignedEncoder:
    """A face-recognition network on aligned faces; see `Encoder` of `benchmarks.evaluate.encoders`.

    Args:
        name: of the encoder's row in the report.
        version: of the detector and the network.
        reader: finds faces.
        spec: size and template of the network.
        embed: gives the embedding (d,) of a face in an image, or raises PhotoError where the face cannot be aligned.
    """

    metric: Metric = "cosine"

    def __init__(
        self,
        name: str,
        version: str,
        reader: FaceReader,
        spec: IdentitySpec,
        embed: Callable[[Pixels, Face], Vector],
    ) -> None:
        self.name, self.version = name, version
        self._reader, self._spec, self._embed = reader, spec, embed

    def locate(self, image: Pixels) -> Points | None:
        """The five landmarks of the biggest face that the bundle's detector finds."""
        (faces,) = self._reader.detect([image])
        if not faces:
            return None
        landmarks = biggest_face(faces, *image.shape[:2]).landmarks.astype(np.float64)
        return landmarks / image.shape[1::-1]

    def embed(self, image: Pixels, points: Points | None) -> Vector:
        """The embedding of the aligned face; of the whole image if the points lie in one place or are None."""
        if points is not None:
            try:
                return self._embed(image, _face(image, points * image.shape[1::-1]))
            except PhotoError:
                pass
        side = self._spec.size
        whole = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))
        return self._embed(whole, _face(whole, np.array(self._spec.template)))


def _face(image: Pixels, landmarks: Points) -> Face:
    height, width = image.shape[:2]
    return Face((0.0, 0.0, float(width), float(height)), 1.0, landmarks.astype(np.float32))


def guard_encoder(anonymizer: Anonymizer) -> AlignedEncoder:
    """The bundle's own face-recognition network, SFace in bundles of ``anon-export`` (Zhong et al., 2021).

    Where the guard was on, it has refused the portraits that this network finds similar: the figures of this row then
    say what the guard did, and only other networks can say whether people are anonymous.

    Raises:
        MissingError: the bundle has none.
    """
    bundle = anonymizer.engines.bundle
    spec = bundle.manifest.identity
    if spec is None:
        raise MissingError(GUARD, f"missing: bundle {bundle.path} has no face-recognition network", REBUILD)
    embed = IdentityEncoder(anonymizer.engines, spec).embed
    return AlignedEncoder(f"{spec.name}, of the guard", _version(anonymizer), anonymizer.reader, spec, embed)


def _version(anonymizer: Anonymizer) -> str:
    return f"bundle {digest(anonymizer.engines.bundle.path / MANIFEST)}"


def row_of(path: Path) -> str:
    """The name of the row of a user's own network."""
    return f"own network, {path.name}"


def file_encoder(anonymizer: Anonymizer, path: Path) -> AlignedEncoder:
    """A user's own network in an ONNX file, such as ``w600k_r50.onnx`` of InsightFace (Deng et al., ArcFace, 2019).

    It takes RGB, (n, 3, size, size), of a face that is aligned by ArcFace's five points. Where the graph normalizes its
    image itself, it gets 0..255, and otherwise -1..1. This is the rule of ``ArcFaceONNX`` in the package insightface,
    which looks for nodes with the names Sub and Mul among the first ones.

    Args:
        anonymizer: a bundle, whose detector finds the faces.
        path: of the file.

    Raises:
        MissingError: the file is no such network.
    """
    row = row_of(path)
    model, session = _load(row, path)
    image = model.graph.input[0]
    sides = [dimension.dim_value for dimension in image.type.tensor_type.shape.dim][2:]
    size = sides[0] if sides and sides[0] > 0 else SIZE  # 0 where any size will do
    mean, std = (0.0, 1.0) if _normalizes(model) else (LEVELS, LEVELS)
    spec = Encoder(path, row, size).spec
    template = np.array(spec.template)

    def embed(photo: Pixels, face: Face) -> Vector:
        crop = (identity_crop(photo, face, template, size) - np.float32(mean)) / np.float32(std)
        vector = np.asarray(session.run(None, {image.name: crop[None]})[0], np.float32).ravel()
        if not np.isfinite(vector).all():
            raise AnonError(row, "it returned NaN or infinity for a face", "give another file")
        return vector

    encoder = AlignedEncoder(row, f"{_version(anonymizer)} {digest(path)}", anonymizer.reader, spec, embed)
    _check(encoder, size)
    return encoder


def _load(row: str, path: Path) -> tuple[onnx.ModelProto, onnxruntime.InferenceSession]:
    try:
        model = read_network(path)
        return model, start_session(model)
    except AnonError as error:
        raise MissingError(row, error.why, error.fix) from None
    except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no base class
        raise MissingError(row, f"onnxruntime cannot load it ({first_line(error)})", "give another file") from None


def _check(encoder: AlignedEncoder, size: int) -> None:
    """Embed a grey image, so that a network of another kind is refused before the first photo."""
    fix = "give a face-recognition network"
    try:
        count = len(encoder.embed(np.full((size, size, 3), 100, np.uint8), None))
    except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no base class
        why = f"it takes no face of {size} x {size} pixels ({first_line(error)})"
        raise MissingError(encoder.name, why, fix) from None
    if count < 2:
        raise MissingError(encoder.name, "it gives one number for a face", fix)


def _normalizes(model: onnx.ModelProto) -> bool:
    """Whether a graph subtracts from its image and scales it before it does anything else."""
    name, kinds = model.graph.input[0].name, set()
    for node in model.graph.node:
        if name in node.input and node.op_type in ("Sub", "Mul", "Div"):
            kinds.add(node.op_type)
            name = node.output[0]
    return "Sub" in kinds and len(kinds) > 1
