"""The calibration of a bundle's guard on a folder of photos, with the bundle's own face detector and network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anon_runtime.backends.engines import Engines
from anon_runtime.bundle.identity import Calibration
from anon_runtime.bundle.integrity import REBUILD
from anon_runtime.errors import BundleError, NoFaceError, PhotoError, UsageError
from anon_runtime.faces.decoding import read_photo
from anon_runtime.faces.detection import biggest_face
from anon_runtime.faces.identity import IDENTITY_ROLE, IdentityEncoder
from anon_runtime.faces.reader import FaceReader
from anon_runtime.folder.discovery import find_photos
from anon_runtime.settings import Settings
from anon_runtime.types import Floats, Pixels

from .calibration import calibrate
from .near_copies import SIDE, group_copies


@dataclass(frozen=True)
class Measurement:
    """What was measured on a folder of photos.

    Attributes:
        calibration: the similarities of different people.
        left_out: the reasons why photos were left out, by the path relative to the folder.
    """

    calibration: Calibration
    left_out: dict[Path, str]


def measure(
    engines: Engines, folder: Path, name: str | None, report: Callable[[int, int], object] = lambda done, total: None
) -> Measurement:
    """Measure how similar the bundle's network finds the different people of a folder.

    The biggest face of each photo counts. Near copies of a photo show one person. So do the photos of a sub-folder.

    Args:
        engines: the engines of the bundle.
        folder: the photos.
        name: the name of the set of photos; None means the folder's name.
        report: called with the number of photos that are done and the number of all.

    Raises:
        BundleError: the bundle has no face detector or no face-recognition network, or a file of it is damaged.
        BackendError: an engine cannot be loaded or run, or returned NaN or infinity.
        UsageError: there is no such folder, it has no photo, no photo shows a face, or there are too few people.
    """
    bundle = engines.bundle
    spec = bundle.manifest.identity
    if spec is None:
        why = "it has no face-recognition network, so that its guard has no threshold"
        raise BundleError(f"bundle {bundle.path}", why, REBUILD)
    if not folder.is_dir():
        raise UsageError(f"folder {folder}", "there is no such folder", "check the name")
    engines.require("face_detector", IDENTITY_ROLE)
    settings = Settings().resolve(bundle.manifest)
    reader, encoder = FaceReader(engines, settings.detector, settings.reading), IdentityEncoder(engines, spec)
    photos = list(find_photos([folder], recursive=True))
    embeddings, thumbnails, names, left_out = list[Floats](), list[Floats](), list[Path](), dict[Path, str]()
    for done, photo in enumerate(photos):
        report(done, len(photos))
        try:
            pixels = read_photo(folder / photo.name)
            embeddings.append(_embed(reader, encoder, pixels))
        except PhotoError as error:
            left_out[photo.name] = error.why
        else:
            thumbnails.append(thumbnail(pixels))
            names.append(photo.name)
    report(len(photos), len(photos))
    engines.verify()
    if not names:
        why = f"none of its {len(photos)} photos could be used; the first one: {next(iter(left_out.values()))}"
        raise UsageError(f"folder {folder}", why, "use photos that show one face each")
    people = find_people(names, np.stack(thumbnails))
    return Measurement(calibrate(np.stack(embeddings), people, name or folder.resolve().name), left_out)


def find_people(names: Sequence[Path], thumbnails: NDArray[np.float32]) -> NDArray[np.int64]:
    """The number of each photo's person: that of the first photo of the same person.

    Args:
        names: the paths of the photos, relative to the folder that was given.
        thumbnails: see `group_copies`.
    """
    folders = np.array([name.parts[0] if len(name.parts) > 1 else "" for name in names])
    return group_copies(thumbnails, same=(folders[:, None] == folders) & (folders != ""))


def thumbnail(photo: Pixels) -> Floats:
    """A photo as `group_copies` takes it: float32 (d,), 0..255."""
    small = Image.fromarray(photo).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float32).ravel()


def _embed(reader: FaceReader, encoder: IdentityEncoder, photo: Pixels) -> Floats:
    faces = reader.detect([photo])[0]
    if not faces:
        raise NoFaceError("no face was found in it", "use a photo that shows one")
    return encoder.embed(photo, biggest_face(faces, *photo.shape[:2]))
