"""The people whom no portrait may resemble: the originals of a run and the gallery, as a set of embeddings.

Embeddings are rounded so that the similarity of two faces is the same however it is computed; see
`anon_runtime.faces.identity.round_embedding`. What is found here therefore depends on the set of people only, and not
on their order, on the batch or on the processor.
"""

import hmac
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..faces.identity import UNIT
from ..types import Floats


@dataclass(frozen=True)
class Reference:
    """A set of people.

    Attributes:
        rows: float32 (n, d), their embeddings, sorted and without repetition; it may be memory-mapped.
    """

    rows: Floats

    @property
    def people(self) -> int:
        """The number of different embeddings."""
        return len(self.rows)

    def digest(self, key: bytes) -> str:
        """Return 16 hexadecimal digits that tell whether two sets are equal, and nothing about anybody in them.

        Args:
            key: a secret; without it, the digits cannot be compared with those of a guessed set.
        """
        digest = hmac.new(key, digestmod="sha256")
        digest.update(np.ascontiguousarray(self.rows).tobytes())
        return digest.hexdigest()[:16]

    def compare(self, portraits: Floats, originals: Floats, link: float) -> list["Resemblance"]:
        """Compare portraits with all people, in one matrix product.

        Several photos may show one person. Whoever is as similar to the original as ``link`` counts as the own
        original, so that a second photo of a person does not hide that the portrait resembles this person most.

        Args:
            portraits: float32 (k, d), the embeddings of portraits.
            originals: float32 (k, d), the embeddings of their originals.
            link: the similarity from which on two originals count as the same person, -1..1.

        Returns:
            For each portrait, its resemblance to its own original and to others.
        """
        count = len(portraits)
        # The people come first, so that a million rows are read once for the whole batch: (n, 2 k).
        product = self.rows @ np.concatenate([portraits, originals]).T
        similarities, kin = product[:, :count], product[:, count:] >= link
        own = np.einsum("kd,kd->k", portraits, originals)
        best = np.where(kin, similarities, own).max(axis=0, initial=-2)
        # Below all similarities, of which rounding takes some below -1.
        others = np.where(kin, np.float32(-2), similarities)
        nearest, ranks = others.max(axis=0, initial=-2), 1 + (others > best).sum(axis=0)
        return [
            Resemblance(float(o), float(b), int(r), float(n) if n > -2 else None)
            for o, b, r, n in zip(own, np.maximum(own, best), ranks, nearest, strict=True)
        ]


@dataclass(frozen=True)
class Resemblance:
    """The similarities of a portrait to people, -1..1.

    Attributes:
        own: the similarity to the own original.
        own_best: the highest similarity to any photo of the own person.
        rank: 1 if nobody else resembles the portrait more than the own person, 2 if one other does, and so on.
        nearest: the highest similarity to another person; None if there is no other.
    """

    own: float
    own_best: float
    rank: int
    nearest: float | None


NOBODY = Reference(np.zeros((0, 1), np.float32))


def make_reference(embeddings: Floats) -> Reference:
    """Return the set of people in an array of embeddings.

    Args:
        embeddings: float32 (n, d), whole multiples of 2 ** -11, in any order.
    """
    return Reference(np.ascontiguousarray(embeddings[find_different(embeddings)] + np.float32(0)))


def find_different(embeddings: Floats) -> NDArray[np.intp]:
    """Return the index of one row for each different embedding, in an order that depends on the set of them only.

    Args:
        embeddings: float32 (n, d), whole multiples of 2 ** -11.
    """
    # Scaled to integers, equal rows have equal bytes; -0.0 and 0.0 would not.
    scaled = np.rint(embeddings * np.float32(UNIT)).astype(np.int16)
    rows = np.ascontiguousarray(scaled).view(np.dtype((np.void, scaled.itemsize * scaled.shape[1]))).ravel()
    return np.unique(rows, return_index=True)[1]
