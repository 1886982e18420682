"""Packages and weights that a row of a table needs, and one error that names everything that is missing."""

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
from anon_runtime.bundle.integrity import sha256
from anon_runtime.errors import AnonError, first_line


class MissingError(AnonError):
    """A package or a file that a row needs is not on this machine; the other rows are computed without it."""


NEED_TORCHVISION = {"clean-fid", "facenet-pytorch", "torch-fidelity", "vdna"}
_BESIDE = "beside a torchvision that fits torch"
_EVALUATE = "pip install 'anon-engines[evaluate]'"
# How each package is installed. Anonymeter and facenet-pytorch require old versions of what they import, and work with
# newer ones; of fer only the weights are used.
INSTALL = {
    "anonymeter": "pip install --no-deps anonymeter==1.1.0",
    "clean-fid": f"pip install 'anon-engines[evaluate-torchvision]' {_BESIDE}",
    "deepface": "pip install 'anon-engines[deepface]'",
    "dlib-bin": _EVALUATE,
    "face-recognition-models": _EVALUATE,
    "facenet-pytorch": f"pip install --no-deps facenet-pytorch==2.6.0 {_BESIDE}",
    "fer": "pip install --no-deps fer==25.10.3",
    "h5py": _EVALUATE,
    "hsemotion-onnx": _EVALUATE,
    "keras": _EVALUATE,
    "numba": _EVALUATE,
    "pandas": _EVALUATE,
    "polars": _EVALUATE,
    "scikit-learn": _EVALUATE,
    "torch-fidelity": f"pip install 'anon-engines[evaluate-torchvision]' {_BESIDE}",
    "transformers": "pip install 'anon-engines[export]'",
    "vdna": f"pip install 'anon-engines[evaluate-torchvision]' {_BESIDE}",
}


class Found(NamedTuple):
    """What a row needs and has.

    Attributes:
        packages: names and versions, for the version of a cache.
        paths: of the files, in the order of the weights.
    """

    packages: str
    paths: list[Path]


@dataclass(frozen=True)
class Repository:
    """Files of a repository on the Hugging Face hub; a file may have one of several names."""

    name: str
    files: tuple[tuple[str, ...], ...]


def require(row: str, *packages: str, weights: Sequence[Weights] = (), repository: Repository | None = None) -> Found:
    """Find everything that a row needs.

    Raises:
        MissingError: names all missing packages and how to install them, and all missing files and where to put them.
    """
    missing = [(f"package {name}", INSTALL[name]) for name in packages if not is_installed(name)]
    if {*packages} & NEED_TORCHVISION and find_spec("torchvision") is None:
        missing.append(("package torchvision", "install the version that fits torch"))
    paths = [one.find() for one in weights]
    for one, path in zip(weights, paths, strict=True):
        if path is None:
            what = f"weights {one.names[0]} ({one.megabytes} MB)"
            missing.append((what, f"download {one.address}/{one.names[0]} and put it into {one.folder()}"))
    if repository is not None:
        stored, absent = _stored(repository)
        paths += stored
        missing += absent
    if missing:
        whats, fixes = zip(*missing, strict=True)
        raise MissingError(row, f"missing: {', '.join(whats)}", "; ".join(dict.fromkeys(fixes)))
    return Found(" ".join(f"{name} {version(name)}" for name in packages), [path for path in paths if path is not None])


def is_installed(package: str) -> bool:
    """Whether a distribution of this name is installed."""
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def _stored(repository: Repository) -> tuple[list[Path | None], list[tuple[str, str]]]:
    """Paths in the hub's cache on this machine, and what is missing with how to get it."""
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
    """The path of a file in an installed package; the package is not imported."""
    return Path(str(distribution(package).locate_file(Path(*parts))))


def torch_home() -> Path:
    """The folder where torch and facenet-pytorch keep downloads."""
    cache = os.getenv("XDG_CACHE_HOME", "~/.cache")
    return Path(os.getenv("TORCH_HOME", f"{cache}/torch")).expanduser()


def hub_checkpoints() -> Path:
    """The folder where `torch.hub` keeps weights."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def digest(*paths: Path) -> str:
    """The first 64 bits of the SHA-256 of each file in hexadecimal digits, for the version of a cache."""
    return "-".join(sha256(path)[:16] for path in paths)


@contextmanager
def loading(row: str, *paths: Path) -> Iterator[None]:
    """Turn any exception of a package that loads weights into one error.

    Raises:
        MissingError: the weights cannot be loaded.
    """
    try:
        yield
    except AnonError:
        raise
    except Exception as error:  # noqa: BLE001 - what packages raise on damaged weights shares no base class
        why = f"cannot load {', '.join(path.name for path in paths)} ({first_line(error)})"
        raise MissingError(row, why, f"delete {paths[0]} and download it again") from None
