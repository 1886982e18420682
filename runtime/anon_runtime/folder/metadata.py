"""The metadata of a photo that may stay in the file of a picture that is made from it.

Nothing is copied as it is. Orientation, colours and dates are read, checked, and written anew, so that nothing else
gets into a file with them: no position, serial number, maker note, thumbnail, XMP, comment or text.
"""

import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from PIL import Image
from PIL.ExifTags import IFD, Base
from PIL.Image import Transpose

from ..faces.decoding import check_size, decoding, open_photo
from .icc_profile import reduce_profile

Kind = Literal["orientation", "icc", "datetime"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# What turns an upright picture into the one that a camera stored, by the EXIF orientation.
STORED = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_90,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_270,
}
# A profile for RGB is one for these pixels; those of all other modes were converted to RGB without it.
RGB_MODES = {"RGB", "RGBA", "P", "PA"}
# When the file was changed, the photo taken, and the photo digitized: the tags of the date, of its offset from UTC, and
# of the fraction of its second.
MOMENTS = (
    (Base.DateTime, Base.OffsetTime, Base.SubsecTime),
    (Base.DateTimeOriginal, Base.OffsetTimeOriginal, Base.SubsecTimeOriginal),
    (Base.DateTimeDigitized, Base.OffsetTimeDigitized, Base.SubsecTimeDigitized),
)
DATE = re.compile(r"([0-9]{4}(?::[0-9]{2}){2} [0-9]{2}(?::[0-9]{2}){2})")
OFFSET = re.compile(r"([+-](?:0[0-9]|1[0-4]):(?:00|15|30|45))")
# Milliseconds put the photos of a series in order. More digits could hold a number that is nobody's time.
FRACTION = re.compile(r"([0-9]{1,3})[0-9]*")


@dataclass(frozen=True)
class Metadata:
    """What stays of a photo's metadata; the default is nothing.

    Attributes:
        orientation: the EXIF orientation, 1 to 8; 1 means that the photo was stored upright.
        icc: an ICC profile for RGB; see `reduce_profile`.
        datetime: EXIF tags and their values: dates as ``YYYY:MM:DD HH:MM:SS``, offsets from UTC as ``+HH:MM``, and
            fractions of a second as up to three digits.
    """

    orientation: int = 1
    icc: bytes | None = None
    datetime: tuple[tuple[int, str], ...] = ()

    def stored(self, image: Image.Image) -> Image.Image:
        """Return an upright picture as a camera with this orientation stores it."""
        return image if self.orientation == 1 else image.transpose(STORED[self.orientation])

    def options(self) -> dict[str, Any]:
        """Return the arguments of Pillow's ``Image.save`` that write this metadata; none if there is nothing."""
        dates = dict(self.datetime)
        tags: dict[int, Any] = {} if self.orientation == 1 else {Base.Orientation: self.orientation}
        if changed := dates.pop(Base.DateTime, None):
            tags[Base.DateTime] = changed
        if dates:
            tags[IFD.Exif] = dates
        exif = Image.Exif()
        exif.update(tags)
        return ({"exif": exif} if tags else {}) | ({"icc_profile": self.icc} if self.icc else {})


NOTHING = Metadata()


def read_metadata(content: bytes, keep: Collection[Kind], *, more_formats: bool = False) -> Metadata:
    """Return what is to stay of a photo's metadata.

    Dates are those of EXIF; the texts and dates of PNG chunks and of XMP are not read. Values that are not well formed
    are left out, since they could hold anything. So are profiles that do not fit 8-bit RGB pixels, which the photo has
    become: those of CMYK and of gray. `decode_photo` looks at all pixels; this function does not.

    Args:
        content: the content of the photo's file.
        keep: what is to stay.
        more_formats: see `decode_photo`.

    Raises:
        PhotoError: the content is not an image, its header or its metadata is damaged, or it is too small or too large.
    """
    with decoding(), open_photo(content, more_formats=more_formats) as image:
        check_size(*image.size)
        icc = image.info.get("icc_profile") if "icc" in keep and image.mode in RGB_MODES else None
        exif = Image.Exif() if {"orientation", "datetime"}.isdisjoint(keep) else _exif(image)
        return Metadata(
            orientation=_orientation(exif) if "orientation" in keep else 1,
            icc=reduce_profile(icc) if icc else None,
            datetime=_dates(exif) if "datetime" in keep else (),
        )


def _exif(image: Image.Image) -> Image.Exif:
    """Return the EXIF fields that decoding sees, and the orientation of XMP where EXIF has none.

    In a PNG they may lie after the pixels. In a TIFF they have to be read before the pixels, since Pillow then applies
    the orientation, and removes it.
    """
    if image.format == "PNG":
        image.load()
    return image.getexif()


def _orientation(exif: Image.Exif) -> int:
    """Return the orientation that decoding applies: all values but 2 to 8 mean that the photo is upright."""
    value = exif.get(Base.Orientation)
    return int(value) if value in STORED else 1


def _dates(exif: Image.Exif) -> tuple[tuple[int, str], ...]:
    values: dict[int, object] = {**exif.get_ifd(IFD.Exif), Base.DateTime: exif.get(Base.DateTime)}
    kept: dict[int, str] = {}
    for date, offset, fraction in MOMENTS:
        if (text := _match(DATE, values.get(date))) and _is_date(text):
            parts = {date: text, offset: _match(OFFSET, values.get(offset))}
            parts[fraction] = _match(FRACTION, values.get(fraction))
            kept |= {int(tag): part for tag, part in parts.items() if part}
    return tuple(kept.items())


def _match(pattern: re.Pattern[str], value: object) -> str | None:
    """Return the first group of a pattern in a text that it matches as a whole, but for blanks and NULs at the end."""
    match = pattern.fullmatch(value.rstrip("\0 ")) if isinstance(value, str) else None
    return match and match[1]


def _is_date(text: str) -> bool:
    with suppress(ValueError):
        return bool(datetime.strptime(text, "%Y:%m:%d %H:%M:%S"))
    return False
