"""The decisions of people about portraits, which they have looked at: lines of the journal."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple, Self, get_args

from ..bundle.integrity import sha256
from ..errors import OutputError
from .writer import Output

Verdict = Literal["accept", "repaint", "refuse"]


class File(NamedTuple):
    """A file with a portrait.

    Attributes:
        output: its name, relative to the output folder.
        input: the name of its photo; None if names are hidden.
        face: the number of the face in its photo, if each face has a portrait.
    """

    output: str
    input: str | None
    face: int | None = None


@dataclass(frozen=True)
class Decision:
    """A person's decision about a portrait.

    It is about the portrait that the journal had for this photo when the line was written. A portrait that is not
    accepted is removed.

    Attributes:
        verdict: ``accept``; ``repaint`` if the next run shall paint another one; ``refuse`` if the photo shall have
            none.
        id: the pseudonym of the photo.
        files: the files with the portrait; identical photos have one each.
        sha256: the sha256 of these files.
        attempt: the attempt that it was painted in.
        coarsening: the level of its words; see `anon_runtime.guard.words.coarsen`.
        by: who has decided.
        at: when, as in ISO 8601.
        reason: why; empty if nobody has said so.
    """

    verdict: Verdict
    id: str
    files: tuple[File, ...]
    sha256: str
    attempt: int
    coarsening: int
    by: str
    at: str
    reason: str

    @property
    def keeps(self) -> bool:
        """Whether the portrait is kept."""
        return self.verdict == "accept"

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Return the decision in a line of a journal.

        Args:
            data: its fields.

        Raises:
            ValueError, KeyError, TypeError: this is no decision.
        """
        files = [File(check_name(file["output"]), file.get("input"), file.get("face")) for file in data["files"]]
        found = cls(**{**data, "files": tuple(files)})
        texts = found.id, found.sha256, found.by, found.at, found.reason, *(file.input or "" for file in files)
        numbers = found.attempt, found.coarsening, *(0 if file.face is None else file.face for file in files)
        if not all(isinstance(text, str) for text in texts) or not all(type(number) is int for number in numbers):
            raise TypeError("a field of a decision is of another type")
        if found.verdict not in get_args(Verdict) or not found.id or min(numbers) < 0:
            raise ValueError("a field of a decision is not valid")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the decision in plain JSON types, as it stands in the journal."""
        files = [{name: value for name, value in file._asdict().items() if value is not None} for file in self.files]
        return asdict(self) | {"files": files}


def check_name(output: str) -> str:
    """Return the name of a portrait in the form that paths have.

    Args:
        output: the name in a line of a journal.

    Raises:
        ValueError, TypeError: this is no name of a file in the output folder.
    """
    path = PurePath(output)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError("the portrait lies in another folder")
    return str(path)


def remove_portraits(out: Path, decisions: Iterable[Decision]) -> None:
    """Remove the portraits that were not accepted and are still there, byte for byte.

    Args:
        out: the output folder.
        decisions: the decisions.

    Raises:
        OutputError: a portrait cannot be removed.
    """
    for decision in decisions:
        for file in () if decision.keeps else decision.files:
            if _digest(out / file.output) == decision.sha256:
                Output(out).remove(Path(file.output))


def _digest(path: Path) -> str | None:
    """Return the sha256 of a file; None if there is none.

    Raises:
        OutputError: it cannot be read.
    """
    try:
        return sha256(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        fix = "remove it if it is a portrait that was refused"
        raise OutputError(f"cannot read {path}", error.strerror or str(error), fix) from None
