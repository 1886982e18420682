"""The seed and the pseudonym of a photo, made from the photo's content and the run's seed.

If names are hidden, the run's seed is a secret: a person who has it and a photo can find the photo's portrait.
Everything that is made from the seed, and the mark of it in the journal, goes through scrypt, so that every guess of
the seed takes a tenth of a second.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..errors import UsageError
from ..jobs import face_seed
from ..types import MAX_SEED, SEED_RANGE

SALT = b"anon-engines"  # a constant, because a photo and a seed must give the same portrait on every machine


@dataclass(frozen=True)
class Identity:
    """The values that identify a photo without its name.

    Attributes:
        seed: the seed of its portrait, 0 .. 2**32 - 1.
        pseudonym: 32 hexadecimal digits, which do not reveal the photo or its name.
    """

    seed: int
    pseudonym: str

    def of_face(self, number: int) -> "Identity":
        """Return the identity of a face of the photo.

        Args:
            number: the number of the face, from 1.
        """
        pseudonym = hashlib.sha256(f"face {number} of {self.pseudonym}".encode()).hexdigest()[:32]
        return Identity(face_seed(self.seed, number - 1), pseudonym)


def identify(content: bytes, base_seed: int) -> Identity:
    """Return the identity of a photo.

    It depends only on the content and the base seed, not on the name of the photo or on other photos. A person who has
    both can compute the pseudonym; a person who lacks one of them has to guess it.

    Args:
        content: the content of the photo's file.
        base_seed: the run's seed, 0 .. 2**64 - 1.
    """
    digest = hashlib.sha256(content).digest()

    def tagged(tag: bytes) -> bytes:
        return hmac.digest(slow_hash(_bytes(base_seed), SALT), tag + digest, "sha256")

    return Identity(int.from_bytes(tagged(b"seed")[:4], "big"), tagged(b"name")[:16].hex())


def identify_source(source: str, base_seed: int) -> str:
    """Return 16 hexadecimal digits that distinguish the places of two photos of one name, without revealing the places.

    Args:
        source: the absolute path or the URL of the photo.
        base_seed: the run's seed, 0 .. 2**64 - 1.
    """
    return hmac.digest(slow_hash(_bytes(base_seed), SALT), b"source" + os.fsencode(source), "sha256")[:8].hex()


def key(base_seed: int) -> bytes:
    """Return a secret that is made from a run's seed, for marks that only the seed's owner can compare.

    Args:
        base_seed: the run's seed, 0 .. 2**64 - 1.
    """
    return hmac.digest(slow_hash(_bytes(base_seed), SALT), b"key", "sha256")


def mark(secret: bytes) -> dict[str, str]:
    """Return a mark of a secret: `is_marked` recognizes the secret by it, but the mark does not reveal the secret."""
    salt = secrets.token_bytes(16)
    return {"salt": salt.hex(), "scrypt": slow_hash(secret, salt).hex()}


def is_marked(marked: Mapping[str, str], secret: bytes) -> bool:
    """Return whether a mark was made from a secret.

    Args:
        marked: a result of `mark`.
        secret: the secret to compare with.

    Raises:
        ValueError: the mark is not valid.
        KeyError: the mark is not valid.
        TypeError: the mark is not valid.
    """
    return hmac.compare_digest(slow_hash(secret, bytes.fromhex(marked["salt"])), bytes.fromhex(marked["scrypt"]))


def _bytes(base_seed: int) -> bytes:
    return base_seed.to_bytes(8, "big")


@lru_cache(maxsize=16)
def slow_hash(secret: bytes, salt: bytes) -> bytes:
    """Return the scrypt hash of a secret, which takes 32 MB of memory and a tenth of a second."""
    fixed = hashlib.sha256(secret).digest()  # scrypt would give the same hash for a secret with zeros appended
    return hashlib.scrypt(fixed, salt=salt, n=2**15, r=8, p=1, maxmem=2**26, dklen=32)


def read_seed(path: Path) -> tuple[int, bool]:
    """Return the seed in a file; a missing file is created with a secret random seed, readable only by its owner.

    Args:
        path: the file.

    Returns:
        The seed, and whether the file was created.

    Raises:
        UsageError: the file cannot be read or created, or does not hold a seed.
    """
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            seed = 1 + secrets.randbelow(MAX_SEED)
            file.write(f"{seed}\n")
            return seed, True
    except FileExistsError:
        pass
    except OSError as error:
        raise UsageError(f"seed file {path}", error.strerror or str(error), "name a file that can be made") from None
    try:
        seed = int(path.read_text(encoding="ascii"))
    except OSError as error:
        raise UsageError(f"seed file {path}", error.strerror or str(error), "check its permissions") from None
    except ValueError:  # the message does not show the text of the file, because it is a secret
        raise UsageError(f"seed file {path}", "it holds no number", f"write {SEED_RANGE} into it") from None
    if not 0 <= seed <= MAX_SEED:
        raise UsageError(f"seed file {path}", "its number is out of range", f"write {SEED_RANGE} into it")
    return seed, False
