"""Keys: one sha256 over everything that a part of a bundle, or the whole of it, is made from."""

import hashlib
import json
from collections.abc import Collection, Iterable
from pathlib import Path

import anon_runtime
from anon_runtime.bundle.integrity import sha256

EXPORT, RUNTIME = Path(__file__).parents[1], Path(anon_runtime.__file__).parent
# The code that decides what a graph or an engine looks like: after an edit of it, all engines are built again.
ENGINE_CODE = (
    "build/components.py", "demo/faces.py", "demo/networks.py", "demo/weights.py", "faces.py", "graphs",
    "models/loading.py", "targets",
)  # fmt: skip
# The code that decides which image diffusers generates.
IMAGE_CODE = ("build/reference.py", "tables.py")
# Code that only talks to people, or trains the demo. After an edit of any other, a bundle is not taken for unchanged:
# its tables are written and its engines verified again, which needs no engine to be built again.
ASIDE = {"cli.py", "console.py", "training"}


def digest(content: object) -> str:
    """sha256 of anything that JSON can say."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def engine_code() -> str:
    """sha256 over the modules that make graphs and engines."""
    return _digest_code([*(EXPORT / name for name in ENGINE_CODE), RUNTIME / "faces" / "attributes.py"])


def image_code() -> str:
    """sha256 over the modules that generate with diffusers."""
    return _digest_code([EXPORT / name for name in IMAGE_CODE])


def bundle_code() -> str:
    """sha256 over all modules that may change what a bundle holds, or whether it passes its verification."""
    return _digest_code([EXPORT, RUNTIME], ASIDE)


def _digest_code(places: Iterable[Path], aside: Collection[str] = ()) -> str:
    """sha256 over modules and folders of modules, but for what lies in them under some names."""
    found = {
        path: path.relative_to(place).parts
        for place in places
        for path in (place.rglob("*.py") if place.is_dir() else [place])
    }
    return digest(sorted(sha256(path) for path, parts in found.items() if not set(parts) & set(aside)))
