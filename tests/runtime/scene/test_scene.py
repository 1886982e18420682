"""Faces that are removed from a photo and replaced: nothing of them stays, and nothing else changes."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anon_runtime import Anonymizer, Request, Settings
from anon_runtime.faces.detection import Face
from anon_runtime.scene.blending import extend
from anon_runtime.scene.places import find_place
from anon_runtime.scene.scene import Scene
from anon_runtime.types import Pixels

PHOTO, PICTURE, BLOCK = (90, 120), (48, 64), 4


def make_face(x: float, y: float, width: float, height: float, angle: float = 0.0) -> Face:
    """A face whose eyes lie on a line of an angle, in radians."""
    centre = np.array([x + width / 2, y + height / 2])
    along = np.array([np.cos(angle), np.sin(angle)]) * width / 4
    landmarks = np.array([centre - along, centre + along, centre, centre, centre], np.float32)
    return Face((x, y, width, height), 0.9, landmarks)


@st.composite
def faces(draw: st.DrawFn) -> Face:
    """Faces of all sizes and directions, some of which the frame cuts."""
    width, height = draw(st.floats(8, 40)), draw(st.floats(8, 40))
    x, y = draw(st.floats(-5, PHOTO[1] - 10)), draw(st.floats(-5, PHOTO[0] - 10))
    return make_face(x, y, width, height, draw(st.floats(-3, 3)))


def noise(seed: int, *shape: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def regions(some: list[Face]) -> Any:
    """Which pixels of the photo are replaced."""
    everything = slice(0, PHOTO[0]), slice(0, PHOTO[1])
    return np.any([find_place(face, PICTURE).region(everything) for face in some], axis=0)


def replace_all(photo: Pixels, some: list[Face]) -> tuple[list[Any], Pixels]:
    """The canvases, and the photo in the end."""
    scene = Scene(photo, some, PICTURE, BLOCK)
    images = [(place, noise(number, *PICTURE)) for number, place in enumerate(scene.places)]
    return [scene.canvas(place) for place in scene.places], scene.compose(images)


@settings(deadline=None, max_examples=50)
@given(st.lists(faces(), min_size=1, max_size=3), st.integers(0, 99))
def test_nothing_of_a_face_stays_and_nothing_else_changes(some: list[Face], seed: int) -> None:
    inside = regions(some)
    first, second = noise(seed, *PHOTO), noise(seed + 1, *PHOTO)
    second[~inside] = first[~inside]
    kept = first.copy()
    (canvases, result), (others, another) = replace_all(first, some), replace_all(second, some)
    np.testing.assert_array_equal(result, another)
    for one, other in zip(canvases, others, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
    np.testing.assert_array_equal(result[~inside], first[~inside])
    np.testing.assert_array_equal(first, kept)


@settings(deadline=None)
@given(faces())
def test_a_region_holds_the_box_of_an_upright_face(face: Face) -> None:
    x, y, width, height = face.box
    upright = find_place(make_face(x, y, width, height), PICTURE)
    corners = np.array([[x, y], [x + width, y], [x, y + height], [x + width, y + height]])
    places = corners @ upright.matrix[:, :2].T + upright.matrix[:, 2]
    assert (upright.radius(places[:, 0], places[:, 1]) < 1).all()


@settings(deadline=None)
@given(faces())
def test_the_picture_shows_the_face_upright_in_its_middle(face: Face) -> None:
    place = find_place(face, PICTURE)
    eyes = face.landmarks[:2] @ place.matrix[:, :2].T + place.matrix[:, 2]
    assert eyes[0, 1] == pytest.approx(eyes[1, 1], abs=1e-2)
    assert eyes[0, 0] < eyes[1, 0]
    assert max(face.box[2:]) * place.scale == pytest.approx(0.6 * 48)
    points = np.array([3.0, 40.0]), np.array([7.0, 5.0])
    back = place.inverse(*points)
    there = np.stack(back, axis=1) @ place.matrix[:, :2].T + place.matrix[:, 2]
    np.testing.assert_allclose(there, np.stack(points, axis=1), atol=1e-6)


def test_a_picture_of_what_was_there_gives_the_photo_again() -> None:
    """A smooth photo is cut, and put back as it was cut: turning and scaling shift nothing."""
    ys, xs = np.mgrid[: PHOTO[0], : PHOTO[1]]
    photo = np.stack([xs * 2, ys * 2, 240 - xs - ys / 2], axis=-1).astype(np.uint8)
    for face in (make_face(40, 30, 24, 24, 0.5), make_face(40, 30, 12, 12), make_face(20, 10, 60, 60, -0.3)):
        scene = Scene(photo, [face], PICTURE, BLOCK)
        (place,) = scene.places
        rows, columns = np.mgrid[: PICTURE[0], : PICTURE[1]] + 0.5
        x, y = place.inverse(columns, rows)
        picture = np.stack([(x - 0.5) * 2, (y - 0.5) * 2, 240 - (x - 0.5) - (y - 0.5) / 2], axis=-1)
        canvas = scene.canvas(place)
        shown = ~canvas.mask & (x > 3) & (x < PHOTO[1] - 3) & (y > 3) & (y < PHOTO[0] - 3)
        assert np.abs(canvas.pixels[shown] - picture[shown]).max() <= 1.3
        again = scene.compose([(place, np.clip(np.rint(picture), 0, 255).astype(np.uint8))])
        assert np.abs(again.astype(int) - photo).max() <= 4


def test_colours_are_matched_at_the_border_and_kept_in_the_middle() -> None:
    photo = np.full((*PHOTO, 3), (200, 120, 40), np.uint8)
    face = make_face(40, 30, 30, 30)
    scene = Scene(photo, [face], PICTURE, BLOCK)
    (place,) = scene.places
    pixels = scene.compose([(place, np.full((*PICTURE, 3), 100, np.uint8))])
    everything = slice(0, PHOTO[0]), slice(0, PHOTO[1])
    radius = place.radius(*place.positions(everything))
    assert (pixels[radius < 0.65] == 100).all()
    border = pixels[(radius > 0.97) & (radius < 1)].astype(int)
    assert np.abs(border - (200, 120, 40)).max() < 6
    assert (pixels[radius >= 1] == (200, 120, 40)).all()


def test_larger_faces_cover_smaller_ones() -> None:
    scene = Scene(noise(0, *PHOTO), [make_face(10, 10, 50, 50), make_face(25, 20, 12, 12)], PICTURE, BLOCK)
    large, small = scene.places
    images = [(large, noise(1, *PICTURE)), (small, noise(2, *PICTURE))]
    both, alone = scene.compose(images), scene.compose(images[:1])
    middle = slice(22, 30), slice(27, 35)
    np.testing.assert_array_equal(both[middle], alone[middle])
    np.testing.assert_array_equal(scene.compose(images[::-1]), both)


@given(st.integers(0, 99), st.integers(1, 40), st.integers(1, 40), st.floats(0, 1))
@settings(deadline=None, max_examples=50)
def test_a_continuation_keeps_what_is_known_and_stays_within_it(
    seed: int, height: int, width: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    values, known = rng.uniform(0, 255, (height, width, 2)).astype(np.float32), rng.random((height, width)) < share
    found = extend(values, known)
    np.testing.assert_array_equal(found[known], values[known])
    if known.any():
        low, high = values[known].min(axis=0), values[known].max(axis=0)
        assert ((found >= low - 1e-3) & (found <= high + 1e-3)).all()
    else:
        assert not found.any()
    values[~known] = np.nan
    np.testing.assert_array_equal(extend(np.nan_to_num(values), known), found)


def test_a_large_continuation_is_like_a_small_one() -> None:
    """It is computed at a lower resolution, which what is smooth does not show."""
    ys, xs = np.mgrid[:700, :1100].astype(np.float32)
    values = np.stack([xs / 5, ys / 4, 200 - xs / 6 - ys / 20], axis=-1)
    known = (xs - 500) ** 2 + (ys - 300) ** 2 > 220**2
    found = extend(values, known)
    np.testing.assert_array_equal(found[known], values[known])
    small = extend(values[::4, ::4], known[::4, ::4])
    assert np.abs(found[::4, ::4] - small).max() < 8
    assert np.abs(np.diff(found, axis=0)).max() < 3
    assert not extend(values, np.zeros_like(known)).any()


def test_every_face_of_a_photo_is_painted_anew(anonymizer: Anonymizer, astronaut: Any) -> None:
    from PIL import Image

    photo = np.asarray(Image.open(astronaut).convert("RGB"))
    spec = anonymizer.engines.bundle.manifest.generator
    found = anonymizer.reader.detect([photo])[0]
    scene = Scene(photo, found, (spec.height, spec.width), spec.vae_scale_factor)
    quick = anonymizer.using(Settings(steps=2))
    requests = [Request("closeup portrait photo of a woman", "", 7, scene.canvas(place)) for place in scene.places]
    images = [np.asarray(portrait.image) for portrait in quick.generate(requests)]
    pixels = scene.compose(list(zip(scene.places, images, strict=True)))
    x, y, width, height = (int(side) for side in found[0].box)
    assert (pixels[y : y + height, x : x + width] != photo[y : y + height, x : x + width]).mean() > 0.9
    changed = (pixels != photo).any(axis=-1)
    assert changed[: y // 2].sum() == changed[:, : x // 2].sum() == 0
