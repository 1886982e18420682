"""The gallery: photos of people who must never appear in a portrait, such as those that a generator learned from."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..casting import Cast
from ..errors import PhotoError, UsageError
from ..faces.decoding import decode_photo
from ..faces.reader import FaceReader
from ..guard.summary import Gallery as GalleryCounts
from .discovery import Photo
from .identity import identify
from .survey import Described, Survey

log = logging.getLogger(__name__)
NAMED = 3  # unreadable photos that a message names


@dataclass(frozen=True)
class Gallery:
    """A gallery that was read.

    Attributes:
        people: all faces of its photos.
        counts: the numbers of its photos and faces.
    """

    people: Survey
    counts: GalleryCounts


def read_gallery(
    reader: FaceReader,
    photos: Sequence[Photo],
    *,
    strict: bool,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Gallery:
    """Read a gallery, once, at the start of a run; photos that come or go later change nothing.

    Args:
        reader: the face reader, which embeds faces.
        photos: the photos.
        strict: whether a photo that cannot be read is an error.
        progress: a function that is called with the number of photos that are done and the number of all.

    Raises:
        UsageError: a photo cannot be read, or no photo shows a face, so that nobody would be protected.
    """
    people, without_face, unreadable = Survey(reader.options.attributes), 0, list[PhotoError]()
    for done, photo in enumerate(photos, 1):
        try:
            content = photo.read()
            decoded = decode_photo(content, more_formats=reader.options.more_formats)
        except PhotoError as error:
            unreadable.append(error.of(str(photo.path)))
        else:
            described = reader.describe_faces(decoded).people
            without_face += not described
            identity = identify(content, 0)
            people.add(Described(photo, identity, Cast(described)))
        progress(done, len(photos))
    for reason in unreadable[:NAMED]:
        log.warning("in the gallery, %s", reason)
    if unreadable and strict:
        why = f"{len(unreadable)} of its {len(photos)} photos cannot be read, so that their people are not protected"
        raise UsageError("`gallery`", why, "remove or repair them")
    if not len(people):
        raise UsageError("`gallery`", f"none of its {len(photos)} photos shows a face", "check the folder")
    return Gallery(people, GalleryCounts(len(photos), len(people), len(unreadable), without_face))
