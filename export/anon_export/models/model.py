"""A Stable Diffusion 1.5 model on this disk: its folders, configs and weight files. Needs no torch."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anon_runtime.bundle.integrity import sha256_all
from anon_runtime.bundle.manifest import Source
from anon_runtime.errors import AnonError

from . import hub, single_file
from .tensor_shapes import read_shapes


@dataclass(frozen=True)
class Weights:
    """The weight files of one part, in the order of their names.

    Attributes:
        paths: safetensors files, or pickles if they were allowed.
        variant: of diffusers' file names, such as ``fp16``.
    """

    paths: tuple[Path, ...]
    variant: str | None = None


@dataclass(frozen=True)
class Model:
    """A Stable Diffusion 1.5 model on this disk.

    Attributes:
        name: the user's name for it, without the path of a local folder.
        folders: one for each part, in diffusers' layout. Those of a checkpoint file hold only its configs.
        weights: one for each part that has any. The parts of a checkpoint file share it.
        checkpoint: the single file that holds the parts, if it is one.
        revision: the commit on the hub, if it comes from there.
        vae: the name of the VAE that replaces its own.
        vae_revision: the commit of that VAE.
    """

    name: str
    folders: Mapping[str, Path]
    weights: Mapping[str, Weights]
    checkpoint: Path | None = None
    revision: str | None = None
    vae: str | None = None
    vae_revision: str | None = None

    def config(self, part: str, name: str = "config.json") -> dict[str, Any]:
        """A part's JSON file.

        Raises:
            AnonError: it is missing or is not JSON.
        """
        return read_json(self.folders[part] / name)

    @property
    def copied(self) -> list[Path]:
        """The files that are copied into a bundle: index, scheduler config and tokenizer."""
        index, scheduler = self.folders["unet"].parent / "model_index.json", self.folders["scheduler"]
        tokenizer = sorted(path for path in self.folders["tokenizer"].rglob("*") if path.is_file())
        return [index, scheduler / "scheduler_config.json", *tokenizer]

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of weights in fp32, by part, whatever precision the files have.

        Raises:
            AnonError: a file is not intact.
        """
        return {part: sum(_size(part, path) for path in weights.paths) for part, weights in self.weights.items()}

    def source(self) -> Source:
        """The record for the manifest, with the sha256 of every weight file.

        Raises:
            AnonError: the sha256 of a file is not the one that the hub gives for it.
        """
        digests = sha256_all(sorted({path for weights in self.weights.values() for path in weights.paths}))
        for path, digest in digests.items():
            hub.check_digest(path, digest)
        files = {self._name_of(path): digest for path, digest in digests.items()}
        return Source(self.name, self.revision, self.vae, self.vae_revision, files)

    def digests(self, part: str, source: Source) -> list[str]:
        """The sha256 of a part's weight files, from `source`."""
        return [source.files[self._name_of(path)] for path in self.weights[part].paths]

    def _name_of(self, path: Path) -> str:
        """The name of a weight file in the manifest."""
        return path.name if path == self.checkpoint else f"{path.parent.name}/{path.name}"


def _size(part: str, path: Path) -> int:
    shapes = read_shapes(path)
    own = {name: shape for name, shape in shapes.items() if name.startswith(single_file.PREFIXES[part])}
    values = sum(math.prod(shape) for shape in (own or shapes).values())
    return 4 * values or path.stat().st_size  # of a pickle whose shapes cannot be read


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a model's folder.

    Raises:
        AnonError: it is missing or is not JSON.
    """
    fix = "get an intact copy of the model"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AnonError(str(path), f"it cannot be read ({error.strerror})", fix) from None
    except ValueError:
        raise AnonError(str(path), "it is not JSON", fix) from None
    if not isinstance(content, dict):
        raise AnonError(str(path), "it is no JSON object", fix)
    return content
