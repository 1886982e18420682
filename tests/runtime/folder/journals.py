"""Journals of output folders that no run has written, for tests of the report."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from anon_runtime.folder.journal_file import NAME
from anon_runtime.guard.alike import BINS, Alike, Pair
from anon_runtime.guard.anonymity import KAnonymity
from anon_runtime.guard.groups import Group, Grouping
from anon_runtime.guard.summary import Different, Engines, Gallery, GuardFacts, Summary
from anon_runtime.guard.thresholds import Threshold

Line = dict[str, Any]
HEADER: Line = {
    "run": {"anon-run": "0.3.0", "rename": "hash", "steps": 4, "suffix": ""},
    "secret": {"salt": "00", "scrypt": "11"},
}
SUMMARY = Summary(
    started="2026-11-25T10:00:00+00:00",
    ended="2026-11-25T10:05:00+00:00",
    ending="finished",
    found=41,
    counts={"ok": 28, "done": 5, "refused": 4, "skipped": 3, "error": 1},
    versions={"anon-engines": "0.3.0"},
    engines=Engines("demo", "onnxruntime", {"unet": "ab" * 32}),
    seconds={"unet": 1.5},
    guard=GuardFacts("strict", "SFace", 0.01, 6, 5, 2, 1),
    originals=37,
    gallery=Gallery(23, 19, 3, 1),
    own=Threshold(0.538, 0.494, 0.582, 0.01, True),
    others=Threshold(0.769, 0.713, 0.826, 0.00017857, True),
    different=Different("SFHQ-40", 401, 80200, tuple([0] * 40 + [2005] * 40)),
    alike=Alike(33, 0.777, 17, (Pair("aa" * 16, "bb" * 16, 0.8125),)),
    words=KAnonymity(33, 21, 13, 29, 1.0),
    uncoarsened=KAnonymity(33, 31, 30, 32, 1.0),
    groups=(Grouping("sex", (Group("man", 22, None, None, 11, 0.31),)), Grouping("age", ())),
)


def pseudonym(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


def released(number: int, similarity: float | None = 0.25, rank: int = 7, nearest: float | None = 0.5) -> Line:
    line: Line = {"id": pseudonym(number), "status": "ok", "attempt": number % 3, "coarsening": number % 2, "seed": 1}
    line |= {"output": f"{pseudonym(number)}.png", "sha256": "00", "seconds": 0.3}
    return line if similarity is None else line | {"similarity": similarity, "rank": rank, "nearest": nearest}


def painted(out: Path, number: int, *, name: str = "", content: bytes = b"", **more: Any) -> Line:
    """Write a portrait, and return its line; see `released`."""
    line = released(number, **more)
    content = content or f"portrait {number}".encode()
    line |= {"sha256": hashlib.sha256(content).hexdigest(), "output": name or line["output"]}
    out.mkdir(exist_ok=True)
    (out / line["output"]).write_bytes(content)
    return line


def refused(number: int, similarity: float | None = 0.75, cause: str = "own original") -> Line:
    line: Line = {"id": pseudonym(number), "status": "refused", "attempt": 5, "coarsening": 5, "cause": cause}
    line |= {"people": "00", "reason": "the guard refused it; leave it out"}
    return line if similarity is None else line | {"similarity": similarity, "rank": 1, "nearest": 0.5}


def failed(number: int | None, reason: str = "the image is damaged", status: str = "error", **more: str) -> Line:
    return {"id": None if number is None else pseudonym(number), "status": status, "reason": reason, **more}


def write_journal(out: Path, lines: Iterable[Line], summary: Summary | None = None, torn: bytes = b"") -> Path:
    out.mkdir(parents=True, exist_ok=True)
    entries = [*lines, *([{"summary": summary.to_dict()}] if summary else [])]
    (out / NAME).write_bytes(b"".join(json.dumps(entry).encode() + b"\n" for entry in entries) + torn)
    return out


def bin_of(similarity: float) -> int:
    return int((similarity + 1) / 2 * BINS)
