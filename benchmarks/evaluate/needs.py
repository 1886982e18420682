"""Packages and weights that a row of a table needs: where they come from, and one kind of error if they are absent."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pathlib import Path

import torch

from anon_export.faces import Weights
from anon_runtime.backends import first_line
from anon_runtime.errors import AnonError
from anon_runtime.integrity import sha256


class MissingError(AnonError):
    """A package or a file that a row needs is not on this machine; the other rows do without it."""


# How each package is installed; facenet-pytorch asks for versions of others that are long gone, and works with newer.
INSTALL = {
    "clean-fid": "pip install 'anon-engines[evaluate-torchvision]' beside a torchvision that fits torch",
    "deepface": "pip install 'anon-engines[deepface]'",
    "dlib-bin": "pip install 'anon-engines[evaluate]'",
    "face-recognition-models": "pip install 'anon-engines[evaluate]'",
    "facenet-pytorch": "pip install --no-deps facenet-pytorch==2.6.0 beside a torchvision that fits torch",
    "hsemotion-onnx": "pip install 'anon-engines[evaluate]'",
    "torch-fidelity": "pip install 'anon-engines[evaluate-torchvision]' beside a torchvision that fits torch",
    "vdna": "pip install 'anon-engines[evaluate-torchvision]' beside a torchvision that fits torch",
}


def need_packages(row: str, *packages: str) -> str:
    """Names and versions of packages, for keys of caches.

    Raises:
        MissingError: one is not installed.
    """
    for package in packages:
        try:
            distribution(package)
        except PackageNotFoundError:
            raise MissingError(row, f"missing: package {package}", INSTALL[package]) from None
    if {"facenet-pytorch", "clean-fid", "torch-fidelity", "vdna"} & {*packages} and find_spec("torchvision") is None:
        raise MissingError(row, "missing: package torchvision", "install the version that fits torch, see the docs")
    return " ".join(f"{package} {version(package)}" for package in packages)


def need_weights(row: str, weights: Weights) -> Path:
    """A file of weights.

    Raises:
        MissingError: says which file, how large it is, where it comes from and where it goes.
    """
    path = weights.find()
    if path is None:
        name = weights.names[0]
        what = f"missing: weights {name} ({weights.megabytes} MB)"
        raise MissingError(row, what, f"download {weights.address}/{name} and put it into {weights.folder()}")
    return path


def need_repository(row: str, repository: str, *files: tuple[str, ...]) -> list[Path]:
    """Files of a repository of the Hugging Face hub, from its cache on this machine; each may have several names.

    Raises:
        MissingError: they were never downloaded.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    found = [[try_to_load_from_cache(repository, name) for name in names] for names in files]
    paths = [next((Path(path) for path in one if isinstance(path, str)), None) for one in found]
    if absent := [" or ".join(names) for names, path in zip(files, paths, strict=True) if path is None]:
        what = f"missing: {', '.join(absent)} of {repository}"
        fix = f"run `hf download {repository} {' '.join(names[0] for names in files)}`"
        raise MissingError(row, what, f"{fix}, which puts them into {constants.HF_HUB_CACHE}")
    return [path for path in paths if path is not None]


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
