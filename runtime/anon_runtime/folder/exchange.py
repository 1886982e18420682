"""The files by which the processes of a cluster exchange what the guard knows about people.

They lie in the private folder of the output folder, which only its owner can read, and which is emptied at the end of a
run, or at the start of the next one after a crash. Ray's object store and Ray's logs get none of it.
"""

import io
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..casting import Agreed
from ..guard.inspector import Crowd, Inspector
from ..guard.reference import Reference
from ..types import Floats
from .survey import Survey
from .writer import write_file


@dataclass(frozen=True)
class Exchange:
    """The exchange of a run.

    Attributes:
        folder: the private folder; all machines have it under the same path.
    """

    folder: Path

    def put_survey(self, number: int, survey: Survey) -> None:
        """Write the survey of the photos of one row.

        Args:
            number: the number of the row.
            survey: the survey.

        Raises:
            OutputError: the folder cannot be written.
        """
        self._put(f"people-{number}", pickle.dumps(survey))

    def survey(self, number: int) -> Survey:
        """Return the survey of a row; see `put_survey`."""
        survey: Survey = pickle.loads((self.folder / f"people-{number}").read_bytes())
        return survey

    def put_agreed(self, agreed: Agreed) -> None:
        """Write the people whose faces are kept.

        Args:
            agreed: the people.

        Raises:
            OutputError: the folder cannot be written.
        """
        self._put("people-agreed", pickle.dumps(agreed))

    def agreed(self) -> Agreed | None:
        """Return the people whose faces are kept; None if there are none. See `put_agreed`."""
        try:
            agreed: Agreed = pickle.loads((self.folder / "people-agreed").read_bytes())
        except FileNotFoundError:
            return None
        return agreed

    def put_crowd(self, crowd: Crowd) -> None:
        """Write all people of the run.

        Args:
            crowd: the people.

        Raises:
            OutputError: the folder cannot be written.
        """
        rows = io.BytesIO()
        np.save(rows, crowd.reference.rows)
        self._put("people-all.npy", rows.getvalue())
        self._put("people-all", pickle.dumps(crowd.frequencies))

    def crowd(self, inspector: Inspector) -> Crowd:
        """Return all people of the run, whose embeddings stay on disk until they are needed.

        Args:
            inspector: the inspector of the run.
        """
        reference = Reference(np.load(self.folder / "people-all.npy", mmap_mode="r"))
        return inspector.gather(reference, pickle.loads((self.folder / "people-all").read_bytes()))

    def put_released(self, number: int, released: dict[str, Floats]) -> None:
        """Write the embeddings of the released portraits of one row.

        Args:
            number: the number of the row.
            released: float32 (d,), the embeddings by pseudonym.

        Raises:
            OutputError: the folder cannot be written.
        """
        self._put(f"people-released-{number}", pickle.dumps(released))

    def released(self) -> dict[str, Floats]:
        """Return the embeddings of all released portraits; see `put_released`."""
        found: dict[str, Floats] = {}
        for path in self.folder.glob("people-released-*"):
            found |= pickle.loads(path.read_bytes())
        return found

    def _put(self, name: str, data: bytes) -> None:
        write_file(self.folder / name, data, self.folder)
