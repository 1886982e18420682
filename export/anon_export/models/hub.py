"""Downloads from the Hugging Face hub into its own cache; ``HF_HOME``, ``HF_HUB_OFFLINE`` and tokens are honoured."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from anon_runtime.errors import AnonError, first_line

from ..disk import check_space

Choose = Callable[[Sequence[str]], list[str]]


def fetch(repository: str, revision: str | None, choose: Choose) -> tuple[Path, str]:
    """The folder of a repository's snapshot, after downloading what is missing of it.

    Args:
        repository: such as ``stabilityai/sd-vae-ft-mse``.
        revision: a commit, tag or branch; None is the main branch.
        choose: the repository's file names -> the ones to download.

    Returns:
        The folder, and the commit.

    Raises:
        AnonError: the repository or revision does not exist, cannot be reached, or does not fit on the disk.
    """
    from huggingface_hub import HfApi, constants, snapshot_download, try_to_load_from_cache

    named = f"model {repository}" + (f" at revision {revision}" if revision else "")
    if constants.HF_HUB_OFFLINE:
        return _fetch_offline(repository, revision, choose, named)
    try:
        info = HfApi().model_info(repository, revision=revision, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        wanted = choose(list(sizes))
        commit = str(info.sha)
        absent = [n for n in wanted if not isinstance(try_to_load_from_cache(repository, n, revision=commit), str)]
        check_space(Path(constants.HF_HUB_CACHE), sum(sizes[name] for name in absent), f"downloading {repository}")
        # By the name of the revision, so that the snapshot is found under this name offline.
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=wanted))
        return folder, folder.name
    except AnonError:
        raise
    except Exception as error:  # noqa: BLE001 (those of the hub, its HTTP library and the network share no base class)
        raise AnonError(named, f"it cannot be downloaded ({_reason(error)})", _fix(error)) from None


def _fetch_offline(repository: str, revision: str | None, choose: Choose, named: str) -> tuple[Path, str]:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(repository, revision=revision, local_files_only=True))
    except Exception:  # noqa: BLE001 (the hub raises several unrelated classes for a revision that is not cached)
        why = "HF_HUB_OFFLINE is set, and this revision was never downloaded here"
        raise AnonError(named, why, "unset HF_HUB_OFFLINE, or name a revision that is in the cache") from None
    choose([path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()])
    return folder, folder.name


def _reason(error: Exception) -> str:
    kinds = {
        "GatedRepoError": "its owner gives access on request",
        "RepositoryNotFoundError": "there is no such repository, or it is private",
        "RevisionNotFoundError": "there is no such revision",
    }
    return kinds.get(type(error).__name__) or first_line(error)


def _fix(error: Exception) -> str:
    if type(error).__name__ in ("GatedRepoError", "RepositoryNotFoundError"):
        return "check the name, or log in with `hf auth login` or HF_TOKEN"
    return "check the name, the revision and the network, and run again: what is complete is not downloaded twice"


def check_digest(path: Path, digest: str) -> None:
    """Compare a file's sha256 with the name that it has in the hub's cache, if it lies there.

    Raises:
        AnonError: the file is damaged.
    """
    blob = path.resolve()
    if blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name) and blob.name != digest:
        raise AnonError(str(blob), "the download is damaged (its sha256 is not the hub's)", "delete it and run again")
