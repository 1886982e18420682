"""Helpers for tests of folder runs: starting a run, and reading its portraits and its journal."""

import base64
import hashlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from anon_runtime import Anonymizer, Settings
from anon_runtime.commands import run_photos
from anon_runtime.console import Reporter
from anon_runtime.folder.decisions import Verdict
from anon_runtime.folder.discovery import find_photos
from anon_runtime.folder.journal_file import NAME
from anon_runtime.folder.options import RunOptions
from anon_runtime.folder.report import REPORT_HTML, REPORT_JSON
from anon_runtime.folder.review import Review
from anon_runtime.folder.writer import Output
from tests.runtime.image_files import bomb, jpeg, jpeg_header, webp_header

# One step gives no face, so that a guard would refuse every portrait.
QUICK = Settings(steps=1, guidance_scale=1, guard="off")
QUIET = Reporter(as_json=False, quiet=True, flags={})


SECRET = 9_876_543_210_123
PEOPLE = 24  # made-up people; so many that the rank of the own original counts


def run(anonymizer: Anonymizer, photos: Path, out: Path, **options: Any) -> int:
    """Run over a folder of photos and return the exit code.

    Options are those of `RunOptions` and `Output.parse`, and ``connected`` of `run_photos`.
    """
    connected = options.pop("connected", None)
    naming = {key: options.pop(key) for key in ("format", "suffix", "rename") if key in options}
    found = list(find_photos([photos], recursive=True, avoid=out))
    output = Output.parse(out, **naming)
    output.check(found)
    chosen = RunOptions(**{"batch_size": 4} | options)
    return run_photos(anonymizer, found, output, chosen, QUIET, connected=connected)


def images(out: Path) -> dict[str, str]:
    """The sha256 of all portraits of a folder, by name."""
    others = {NAME, REPORT_JSON, REPORT_HTML}
    files = [path for path in out.rglob("*") if path.is_file() and path.name not in others]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def entries(out: Path) -> list[dict[str, Any]]:
    """The entries of photos in the journal since the last run with `overwrite`."""
    lines = [json.loads(line) for line in (out / NAME).read_text().splitlines()]
    begun = max(number for number, line in enumerate(lines) if "run" in line)
    return [line for line in lines[begun + 1 :] if "summary" not in line]


def decide_about(out: Path, name: str, verdict: Verdict) -> None:
    """Decide about the portrait of a name, as a person does."""
    review = Review(out)
    found = [one for state in review.counts() for one in review.page(state, 0, 99)]
    (known,) = [one for one in found if name in [file.output for file in one.files]]
    review.decide(known.id, known.sha256, verdict, by="Ada", reason="it is blurred", state=known.state)


def traces(embedding: np.ndarray[Any, Any]) -> Iterator[bytes]:
    """Texts and bytes by which an embedding could be found in a file."""
    for row in (embedding, np.rint(embedding * 2048).astype(np.int16), embedding.astype(np.float16)):
        data = np.ascontiguousarray(row).tobytes()
        yield data[:24]
        yield base64.b64encode(data)[8:32]
        yield data[:24].hex().encode()
    values = [repr(abs(float(value))) for value in embedding]
    yield from (value.encode() for value in values if len(value) > 11)  # others may be in a file by chance


def without_a_face(path: Path) -> None:
    """Replace a photo by one without a face."""
    Image.new("RGB", (64, 64), "gray").save(path)


def corrupt_files() -> dict[str, bytes]:
    """Twelve kinds of files that cannot be read as photos, by name."""
    good = jpeg()
    return {
        "empty.jpg": b"", "text.jpg": b"no image", "zeros.png": bytes(5000), "truncated.jpg": good[:900],
        "header.jpg": good[:20], "bomb.png": bomb(50_000, 50_000), "wide.jpg": jpeg_header(50_000),
        "huge.webp": webp_header(16_383), "html.png": b"<html>404</html>", "half.webp": webp_header(300),
        "noise.jpg": good[:300] + random.Random(0).randbytes(2000), "film.gif": b"GIF89a" + bytes(50),
    }  # fmt: skip


def arguments(bundle: Path, photos: Path, out: Path) -> list[str]:
    """The arguments of `anon-run` for a quick run over a folder."""
    quick = ["--steps", "1", "--guidance-scale", "1", "--batch-size", "2", "--no-checksum", "--guard", "off"]
    return [str(photos), "-r", "-o", str(out), "--engines", str(bundle), *quick]


def start(bundle: Path, photos: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    """Start `anon-run` over a folder in a process of its own."""
    code = "from anon_runtime.cli import main; main()"
    command = [sys.executable, "-c", code, *arguments(bundle, photos, out), *more]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for(out: Path, count: int) -> None:
    """Wait until an output folder holds at least ``count`` portraits."""
    end = time.monotonic() + 120
    while len(list(out.rglob("*.png"))) < count:
        assert time.monotonic() < end
        time.sleep(0.002)
