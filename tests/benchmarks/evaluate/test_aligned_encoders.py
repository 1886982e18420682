"""Encoders on aligned faces: the bundle's network against the runtime, and networks of one layer in files."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from anon_export.identity import find_sface
from anon_runtime import Anonymizer
from anon_runtime.bundle.identity import ARCFACE_TEMPLATE, IdentitySpec
from anon_runtime.errors import AnonError
from anon_runtime.faces.decoding import read_photo
from anon_runtime.faces.detection import Face
from anon_runtime.faces.identity import identity_crop
from anon_runtime.types import Pixels
from benchmarks.evaluate.aligned_encoders import GUARD, AlignedEncoder, file_encoder, guard_encoder
from benchmarks.evaluate.cache import Cache
from benchmarks.evaluate.encoders import Embedder
from benchmarks.evaluate.pairs import ImageFile, Method
from benchmarks.evaluate.reidentification import similarity
from benchmarks.evaluate.requirements import MissingError
from benchmarks.evaluate.types import Vector
from tests.conftest import edit_manifest

SIDE = 56


@pytest.fixture(scope="module")
def guard(anonymizer: Anonymizer) -> AlignedEncoder:
    return guard_encoder(anonymizer)


@pytest.fixture(scope="module")
def face(astronaut: Path) -> Pixels:
    """The face of the photo: 180 wide and 240 high."""
    return np.ascontiguousarray(read_photo(astronaut)[10:250, 140:320])


def embed(encoder: AlignedEncoder, image: Pixels) -> Vector:
    points = encoder.locate(image)
    assert points is not None
    return encoder.embed(image, points)


def write_network(
    path: Path,
    before: Sequence[tuple[str, float]] = (),
    after: Sequence[str] = ("GlobalAveragePool", "Flatten"),
    *,
    shape: Sequence[int | str] = ("n", 3, SIDE, SIDE),
    inputs: Sequence[str] = ("image",),
    outputs: Sequence[str] = ("embedding",),
) -> Path:
    """A network that gives the mean colour of a face.

    Args:
        path: of the file.
        before: operators and the numbers that they apply to the image, one after the other.
        after: the operators that follow; ``Sub`` and ``Mul`` work with 1.
        shape: of the input.
        inputs, outputs: their names; more than one are added up, and repeated.
    """
    nodes, weights, last = [], [], inputs[0]
    for name in inputs[1:]:
        nodes.append(helper.make_node("Add", [last, name], [f"{last}+{name}"]))
        last = f"{last}+{name}"
    for number, (kind, value) in enumerate([*before, *((kind, 1.0) for kind in after)]):
        more = [f"weight {number}"] if kind in ("Sub", "Mul", "Div") else []
        weights += [numpy_helper.from_array(np.float32(value).reshape(1), name) for name in more]
        nodes.append(helper.make_node(kind, [last, *more], [f"step {number}"], name=f"node {number}"))
        last = f"step {number}"
    nodes += [helper.make_node("Identity", [last], [name]) for name in outputs]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in inputs]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, "mean colour", values, made, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def mean_colour(image: Pixels, landmarks: Vector, size: int = SIDE) -> Vector:
    """The mean of the aligned crop, 0..255."""
    template = np.array(ARCFACE_TEMPLATE) * size / 112
    found: Vector = identity_crop(image, Face((0, 0, 1, 1), 1, landmarks), template, size).mean(axis=(1, 2))
    return found


def test_the_guards_network_gives_what_the_runtime_gives(
    guard: AlignedEncoder, anonymizer: Anonymizer, astronaut: Path, face: Pixels
) -> None:
    """The points are stored as shares of the image's size; the embedding is still the guard's own."""
    assert guard.name == "SFace, of the guard"
    for image in (read_photo(astronaut), face, np.asarray(Image.fromarray(face).resize((101, 133)))):
        expected = anonymizer.describe(image).embedding
        assert expected is not None, "the guard is on"
        np.testing.assert_array_equal(embed(guard, image), expected)


def test_points_are_shares_of_the_biggest_face(guard: AlignedEncoder, face: Pixels) -> None:
    photo = Image.fromarray(face)
    pair = Image.new("RGB", (360, 240))
    pair.paste(photo.resize((90, 120)), (20, 60))
    pair.paste(photo, (180, 0))
    alone, points = guard.locate(face), guard.locate(np.asarray(pair))
    assert alone is not None
    assert points is not None
    assert points.shape == (5, 2)
    np.testing.assert_allclose(points, alone * [0.5, 1] + [0.5, 0], atol=0.02)


def test_the_biggest_face_counts_and_not_the_most_certain_one() -> None:
    large, small = np.full((5, 2), 30, np.float32), np.full((5, 2), 90, np.float32)
    faces = [Face((80, 80, 10, 10), 0.9, small), Face((10, 10, 40, 40), 0.6, large)]
    reader: Any = SimpleNamespace(detect=lambda photos: [faces for _ in photos])
    spec = IdentitySpec("own", 112, ARCFACE_TEMPLATE)
    encoder = AlignedEncoder("own", "1", reader, spec, lambda image, face: np.zeros(2))
    points = encoder.locate(np.zeros((100, 200, 3), np.uint8))
    np.testing.assert_allclose(points, np.tile([0.15, 0.3], (5, 1)), atol=1e-6)  # type: ignore[arg-type]


def test_no_face_is_no_point(guard: AlignedEncoder, coffee: Path) -> None:
    assert guard.locate(read_photo(coffee)) is None


def test_without_points_the_whole_image_is_the_crop(
    guard: AlignedEncoder, anonymizer: Anonymizer, face: Pixels
) -> None:
    small = np.asarray(Image.fromarray(face).resize((112, 112), Image.Resampling.BILINEAR), np.float32)
    expected = anonymizer.engines["face_identity"]({"image": small.transpose(2, 0, 1)[None]})["embedding"]
    assert similarity(guard.embed(face, None)[None], np.asarray(expected, float), "cosine").item() > 0.9999
    in_one_place = np.full((5, 2), 0.5)
    np.testing.assert_array_equal(guard.embed(face, in_one_place), guard.embed(face, None))


def test_a_face_that_is_not_found_is_cropped_where_its_originals_is(
    guard: AlignedEncoder, face: Pixels, coffee: Path, tmp_path: Path
) -> None:
    original, hidden = tmp_path / "original.png", tmp_path / "hidden.png"
    Image.fromarray(face).save(original)
    noise = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    Image.fromarray(noise).resize((90, 120)).save(hidden)
    method = Method("m", {0: ImageFile("a", hidden), 1: ImageFile("b", hidden)})
    with Cache(tmp_path / "cache.npz", guard.version) as cache:
        queries = Embedder(guard, cache).method([ImageFile("a", original), ImageFile("b", coffee)], method)
    assert queries.faceless.tolist() == [True, True]
    points, image = guard.locate(face), read_photo(hidden)
    np.testing.assert_array_equal(queries.vectors[0], guard.embed(image, points))
    np.testing.assert_array_equal(queries.vectors[1], guard.embed(image, None))
    assert (queries.vectors[0] != queries.vectors[1]).any()


def test_a_bundle_without_the_network_is_named(own_bundle: Path) -> None:
    edit_manifest(own_bundle, identity=None)
    with pytest.raises(MissingError, match=rf"{GUARD}: .*{own_bundle} has no face-recognition network"):
        guard_encoder(Anonymizer.load(own_bundle))


@pytest.mark.parametrize(
    ("before", "after", "mean", "std"),
    [
        ([], ["GlobalAveragePool", "Flatten"], 127.5, 127.5),
        ([("Sub", 127.5), ("Mul", 1 / 128)], ["GlobalAveragePool", "Flatten"], 127.5, 128),
        ([("Div", 255), ("Sub", 0.5), ("Div", 0.5)], ["GlobalAveragePool", "Flatten"], 127.5, 127.5),
        ([("Mul", 0.5)], ["GlobalAveragePool", "Flatten"], 127.5, 255),  # it scales, and does not subtract
        ([("Mul", 0.5), ("Div", 2)], ["GlobalAveragePool", "Flatten"], 127.5, 510),
        ([("Sub", 0)], ["GlobalAveragePool", "Flatten"], 127.5, 127.5),
        ([], ["GlobalAveragePool", "Sub", "Mul", "Flatten"], 255, 127.5),  # it subtracts 1, but not from the image
    ],
)
def test_a_network_gets_what_it_expects(
    anonymizer: Anonymizer, face: Pixels, tmp_path: Path, before: Any, after: list[str], mean: float, std: float
) -> None:
    encoder = file_encoder(anonymizer, write_network(tmp_path / "own.onnx", before, after))
    points = encoder.locate(face)
    assert points is not None
    expected = (mean_colour(face, points * [180, 240]) - mean) / std
    np.testing.assert_allclose(encoder.embed(face, points), expected, atol=1e-5)
    assert encoder.name == "own network, own.onnx"
    assert encoder.metric == "cosine"


def test_the_size_is_the_files_or_112_pixels(anonymizer: Anonymizer, face: Pixels, tmp_path: Path) -> None:
    for shape, size in ((("n", 3, 80, 80), 80), (("n", 3, "h", "w"), 112), ((1, 3, SIDE, SIDE), SIDE), (None, 112)):
        encoder = file_encoder(anonymizer, write_network(tmp_path / "own.onnx", shape=shape))  # type: ignore[arg-type]
        points = encoder.locate(face)
        assert points is not None
        expected = mean_colour(face, points * [180, 240], size) / 127.5 - 1
        np.testing.assert_allclose(encoder.embed(face, points), expected, atol=1e-5)


def test_sface_as_a_file_is_the_guards_network(
    guard: AlignedEncoder, anonymizer: Anonymizer, demo_bundle: Path, face: Pixels
) -> None:
    """Both the bundle's file and the published one, which lists weights as inputs, normalize their image themselves."""
    for path in (demo_bundle / "faces" / "identity" / "model.onnx", find_sface().path):
        theirs, ours = embed(file_encoder(anonymizer, path), face), embed(guard, face)
        assert similarity(theirs[None], ours[None], "cosine").item() > 0.9999


def test_another_file_is_another_version(anonymizer: Anonymizer, tmp_path: Path) -> None:
    files = (write_network(tmp_path / "own.onnx"), write_network(tmp_path / "other.onnx", [("Mul", 2)]))
    versions = [file_encoder(anonymizer, path).version for path in files]
    assert len({*versions, guard_encoder(anonymizer).version}) == 3


def test_another_bundle_is_another_version(guard: AlignedEncoder, own_bundle: Path) -> None:
    edit_manifest(own_bundle, name="other")
    assert guard_encoder(Anonymizer.load(own_bundle)).version != guard.version


@pytest.mark.parametrize(
    ("write", "why"),
    [
        (lambda path: path.write_text("not a graph"), "onnx cannot load it"),
        (partial(write_network, inputs=("left", "right")), "it does not map one image to one embedding"),
        (partial(write_network, outputs=("one", "two")), "it does not map one image to one embedding"),
        (partial(write_network, shape=(1, SIDE, SIDE, 3)), "it takes no face of 56 x 56 pixels"),
        (partial(write_network, shape=(1, 3)), "it takes no face of 112 x 112 pixels"),
        (partial(write_network, after=["GlobalAveragePool", "Sqrt"]), "it returned NaN or infinity"),
        (partial(write_network, after=["ReduceMean"]), "it gives one number for a face"),
        (partial(write_network, after=["NoSuchOperator"]), "onnxruntime cannot load it"),
    ],
)
def test_a_file_that_is_no_such_network_is_refused_in_one_line(
    anonymizer: Anonymizer, tmp_path: Path, write: Any, why: str
) -> None:
    write(tmp_path / "own.onnx")
    with pytest.raises(MissingError) as caught:
        file_encoder(anonymizer, tmp_path / "own.onnx")
    assert str(caught.value).startswith("own network, own.onnx: ")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_face_without_an_embedding_is_an_error(anonymizer: Anonymizer, tmp_path: Path) -> None:
    """The root of a colour below the middle is NaN; the grey image of the check is 100 - 90 above it."""
    network = write_network(tmp_path / "own.onnx", [("Sub", 90), ("Mul", 1)], ["GlobalAveragePool", "Sqrt"])
    encoder = file_encoder(anonymizer, network)
    with pytest.raises(AnonError, match=r"own\.onnx: it returned NaN or infinity for a face"):
        encoder.embed(np.zeros((60, 60, 3), np.uint8), None)
