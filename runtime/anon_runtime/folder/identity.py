"""What a run's seed makes of a photo: the seed of its portrait, and a name that tells nothing.

The run's seed is a secret where names are hidden: whoever has it and a photo can find the photo's portrait. What is
made of it, and what the journal keeps to know it again, goes through scrypt, so that every guess at it takes a tenth of
a second.
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
from ..types import MAX_SEED, SEED_RANGE

SALT = b"anon-engines"  # one for everybody: a photo and a seed have to give the same portrait everywhere


@dataclass(frozen=True)
class Identity:
    """What a photo's content makes of it: the seed of its portrait, and a name that tells nothing."""

    seed: int
    pseudonym: str


def identify(content: bytes, base_seed: int) -> Identity:
    """A seed of 32 bits and a pseudonym of 128 for a photo, whatever it is called and whichever come before it.

    Whoever has the photo and the base seed can find its pseudonym; whoever lacks one of them has to guess it.
    """
    digest = hashlib.sha256(content).digest()

    def tagged(tag: bytes) -> bytes:
        return hmac.digest(slow_hash(_bytes(base_seed), SALT), tag + digest, "sha256")

    return Identity(int.from_bytes(tagged(b"seed")[:4], "big"), tagged(b"name")[:16].hex())


def identify_source(source: str, base_seed: int) -> str:
    """What tells two photos of one name apart, in 16 digits that do not tell where they lie."""
    return hmac.digest(slow_hash(_bytes(base_seed), SALT), b"source" + os.fsencode(source), "sha256")[:8].hex()


def mark(secret: bytes) -> dict[str, str]:
    """What is needed to know a secret again, and tells nothing of it."""
    salt = secrets.token_bytes(16)
    return {"salt": salt.hex(), "scrypt": slow_hash(secret, salt).hex()}


def is_marked(marked: Mapping[str, str], secret: bytes) -> bool:
    """Whether a mark is one of this secret.

    Raises:
        ValueError, KeyError, TypeError: it is no mark.
    """
    return hmac.compare_digest(slow_hash(secret, bytes.fromhex(marked["salt"])), bytes.fromhex(marked["scrypt"]))


def _bytes(base_seed: int) -> bytes:
    return base_seed.to_bytes(8, "big")


@lru_cache(maxsize=16)
def slow_hash(secret: bytes, salt: bytes) -> bytes:
    """scrypt with 32 MB and a tenth of a second for each guess."""
    fixed = hashlib.sha256(secret).digest()  # to scrypt, a secret and the same one with zeros behind it are equal
    return hashlib.scrypt(fixed, salt=salt, n=2**15, r=8, p=1, maxmem=2**26, dklen=32)


def read_seed(path: Path) -> tuple[int, bool]:
    """The seed that a file holds; a file that is not there is made, for its owner's eyes, with a secret one.

    Returns:
        The seed, and whether it was made.

    Raises:
        UsageError: the file cannot be read or made, or holds no seed.
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
    except ValueError:  # its text is not shown: it is a secret
        raise UsageError(f"seed file {path}", "it holds no number", f"write {SEED_RANGE} into it") from None
    if not 0 <= seed <= MAX_SEED:
        raise UsageError(f"seed file {path}", "its number is out of range", f"write {SEED_RANGE} into it")
    return seed, False
