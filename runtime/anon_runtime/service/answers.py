"""What comes back: the format that is accepted, records, and events."""

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from PIL import Image

from ..folder.records import Record
from ..folder.writer import ImageFormat, encode
from ..types import Retouched
from .forms import MEDIA_TYPES
from .orders import Order, Result, Step

EVENTS, JSON = "text/event-stream", "application/json"
OF_FILES = ("input", "output", "status", "reason")  # what the record of a run says about files, which are none here


def negotiate(accept: str, wanted: ImageFormat | None) -> tuple[ImageFormat, str]:
    """Return the format of the image, and the media type of the response: the first one accepted that the service has.

    Args:
        accept: the header ``Accept``.
        wanted: the format that the form asks for; None if it asks for none.

    Raises:
        HTTPException: there is none.
    """
    by_media = {media: name for name, media in MEDIA_TYPES.items()}
    for part in accept.split(","):
        media = part.partition(";")[0].strip().lower()
        if media in (JSON, EVENTS):
            return wanted or "png", media
        if media in ("*/*", "image/*", ""):
            return wanted or "png", MEDIA_TYPES[wanted or "png"]
        if media in by_media and wanted in (None, by_media[media]):
            return by_media[media], media
    raise HTTPException(406, "accept image/png, image/jpeg, image/webp, application/json or text/event-stream")


def encoded(order: Order, result: Result) -> bytes:
    """Return the picture of a result as the content of a file."""
    return encode(result.picture.image, order.format, order.quality)


def record(order: Order, result: Result) -> dict[str, Any]:
    """Return the record of ``anon-run --json``, without what it says about files, and with the picture in base64."""
    picture = result.picture
    if isinstance(picture, Retouched):
        found = replace(Record.retouched(picture, "", Path(), result.seed, {}), mode="in-place")
    else:
        found = Record.of(picture, None, Path(), {})
    facts = {name: value for name, value in found.to_dict().items() if name not in OF_FILES}
    return facts | {"image": _packed(order.format, encoded(order, result))}


def step_event(step: Step) -> str:
    """Return a step as an event."""
    data: dict[str, Any] = {"done": step.done, "total": step.total, "attempt": step.attempt}
    if step.preview is not None:
        data["preview"] = _packed("jpeg", encode(Image.fromarray(step.preview), "jpeg", 80))
    return _event("step", data)


def end_event(order: Order, result: Result) -> str:
    """Return a result as an event."""
    return _event("photo" if order.in_place else "portrait", record(order, result))


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


def _packed(kind: ImageFormat, image: bytes) -> dict[str, str]:
    return {"media_type": MEDIA_TYPES[kind], "base64": base64.b64encode(image).decode()}
