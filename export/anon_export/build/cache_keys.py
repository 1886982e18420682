"""Cache keys: one sha256 over everything that a component, the reference image or a whole bundle is made from."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import anon_runtime
from anon_runtime.bundle.integrity import sha256

from ..component import Component

EXPORT, RUNTIME = Path(__file__).parents[1], Path(anon_runtime.__file__).parent
# The code that decides what a graph or an engine looks like. After an edit of it, all engines are built again.
ENGINE_CODE = (
    "component.py",
    "demo/faces.py",
    "demo/networks.py",
    "demo/weights.py",
    "faces.py",
    "generator.py",
    "graphs",
    "models/loading.py",
    "targets",
)
# The code that decides which image diffusers generates.
IMAGE_CODE = ("build/reference.py", "tables.py")
# Code that only prints messages or trains the demo. After an edit of any other code, a bundle counts as changed: its
# tables are written and its engines are verified again, but no engine is built again.
EXCLUDED = {"cli.py", "console.py", "training"}


def digest(content: object) -> str:
    """sha256 of anything that JSON can represent."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def component_key(component: Component, common: Mapping[str, Any]) -> str:
    """sha256 over a component's material, its precision, and what all components of a build have in common."""
    own = {"name": component.name, "precision": component.precision, "material": component.material}
    return digest(own | {"common": common})


def engine_code() -> str:
    """sha256 over the modules that make graphs and engines."""
    return _digest_code([*(EXPORT / name for name in ENGINE_CODE), RUNTIME / "faces" / "attributes.py"])


def quantization_code() -> str:
    """sha256 over the modules that calibrate and quantize a UNet."""
    return _digest_code([EXPORT / "quantization"])


def image_code() -> str:
    """sha256 over the modules that generate the reference image with diffusers."""
    return _digest_code([EXPORT / name for name in IMAGE_CODE])


def bundle_code() -> str:
    """sha256 over all modules that may change what a bundle holds, or whether it passes its verification."""
    return _digest_code([EXPORT, RUNTIME], EXCLUDED)


def _digest_code(places: Iterable[Path], excluded: Collection[str] = ()) -> str:
    """sha256 over modules and folders of modules, without the files and folders that have an excluded name."""
    found = {
        path: path.relative_to(place).parts
        for place in places
        for path in (place.rglob("*.py") if place.is_dir() else [place])
    }
    return digest(sorted(sha256(path) for path, parts in found.items() if not set(parts) & set(excluded)))
