"""A component: one folder of a bundle, whose engines are exported, kept and replaced together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anon_runtime.bundle.manifest import EngineSpec

from .graphs.options import Precision


@dataclass(frozen=True)
class Component:
    """One folder of a bundle and how to export it.

    Attributes:
        name: of the folder, relative to the bundle's.
        roles: the roles of its engines in the bundle.
        material: everything that its graphs are made from: configs, shapes, and the sha256 of the weight files.
        size: of its weights, in bytes of fp32, approximately.
        precision: of its engines.
        export: writes its graphs below a folder and returns their entries for the manifest, by role.
    """

    name: str
    roles: tuple[str, ...]
    material: Mapping[str, Any]
    size: int
    precision: Precision
    export: Callable[[Path], dict[str, EngineSpec]]
