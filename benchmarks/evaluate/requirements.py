"""Packages and weights that a row of a table needs: where they come from, and one kind of error if they are absent."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch

from anon_export.faces import Weights
from anon_runtime.backends.base import first_line
from anon_runtime.bundle.integrity import sha256
from anon_runtime.errors import AnonError


class MissingError(AnonError):
    """A package or a file that a row needs is not on this machine; the other rows do without it."""


TORCHVISION = {"clean-fid", "facenet-pytorch", "torch-fidelity", "vdna"}  # packages that import it
_BESIDE = "beside a torchvision that fits torch"
# How each package is installed; facenet-pytorch asks for versions of others that are long gone, and works with newer.
INSTALL = {
    "clean-fid": f"pip install 'anon-engines[evaluate-torchvision]' {_BESIDE}",
    "deepface": "pip install 'anon-engines[deepface]'",
    "dlib-bin": "pip install 'anon-engines[evaluate]'",
    "face-recognition-models": "pip install 'anon-engines[evaluate]'",
    "facenet-pytorch": f"pip install --no-deps facenet-pytorch==2.6.0 {_BESIDE}",
    "hsemotion-onnx": "pip install 'anon-engines[evaluate]'",
    "torch-fidelity": f"pip install 'anon-engines[evaluate-torchvision]' {_BESIDE}",
    "transformers": "pip install 'anon-engines[export]'",
    "vdna": f"pip install 'anon-engines[evaluate-torchvision]' {_BESIDE}",
}


class Found(NamedTuple):
    """Names and versions of packages, for keys of caches, and files in the order of the weights."""

    packages: str
    paths: list[Path]


@dataclass(frozen=True)
class Repository:
    """Files of a repository of the Hugging Face hub; each may have several names."""

    name: str
    files: tuple[tuple[str, ...], ...]


def need(row: str, *packages: str, weights: Sequence[Weights] = (), repository: Repository | None = None) -> Found:
    """Everything that a row needs.

    Raises:
        MissingError: lists all that is missing: packages and how to install them, files and where they go.
    """
    lacks = [(f"package {name}", INSTALL[name]) for name in packages if not _installed(name)]
    if {*packages} & TORCHVISION and find_spec("torchvision") is None:
        lacks.append(("package torchvision", "install the version that fits torch"))
    paths = [one.find() for one in weights]
    for one, path in zip(weights, paths, strict=True):
        if path is None:
            what = f"weights {one.names[0]} ({one.megabytes} MB)"
            lacks.append((what, f"download {one.address}/{one.names[0]} and put it into {one.folder()}"))
    if repository is not None:
        stored, absent = _stored(repository)
        paths += stored
        lacks += absent
    if lacks:
        whats, fixes = zip(*lacks, strict=True)
        raise MissingError(row, f"missing: {', '.join(whats)}", "; ".join(dict.fromkeys(fixes)))
    return Found(" ".join(f"{name} {version(name)}" for name in packages), [path for path in paths if path is not None])


def _installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def _stored(repository: Repository) -> tuple[list[Path | None], list[tuple[str, str]]]:
    """Paths in the hub's cache on this machine, and what is not there."""
    from huggingface_hub import constants, try_to_load_from_cache

    found = [[try_to_load_from_cache(repository.name, name) for name in names] for names in repository.files]
    paths = [next((Path(path) for path in one if isinstance(path, str)), None) for one in found]
    absent = [" or ".join(names) for names, path in zip(repository.files, paths, strict=True) if path is None]
    if not absent:
        return paths, []
    command = f"`hf download {repository.name} {' '.join(names[0] for names in repository.files)}`"
    fix = f"run {command}, which puts them into {constants.HF_HUB_CACHE}"
    return paths, [(f"{', '.join(absent)} of {repository.name}", fix)]


def data_of(package: str, *parts: str) -> Path:
    """A file of an installed package, found without importing the package."""
    return Path(str(distribution(package).locate_file(Path(*parts))))


def torch_home() -> Path:
    """Where torch and facenet-pytorch keep downloads."""
    cache = os.getenv("XDG_CACHE_HOME", "~/.cache")
    return Path(os.getenv("TORCH_HOME", f"{cache}/torch")).expanduser()


def hub_checkpoints() -> Path:
    """Where `torch.hub` keeps weights."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def digest(*paths: Path) -> str:
    """Of files, 64 bits in hexadecimal digits, for keys of caches."""
    return "-".join(sha256(path)[:16] for path in paths)


@contextmanager
def loading(row: str, *paths: Path) -> Iterator[None]:
    """Packages raise anything on damaged weights; it becomes one message.

    Raises:
        MissingError: the weights are of no use.
    """
    try:
        yield
    except AnonError:
        raise
    except Exception as error:
        why = f"cannot load {', '.join(path.name for path in paths)} ({first_line(error)})"
        raise MissingError(row, why, f"delete {paths[0]} and download it again") from None
