"""Models in diffusers' layout, a folder for each part: which files hold the weights, and which ones a build needs."""

import re
from collections.abc import Sequence
from pathlib import Path

from anon_runtime.errors import AnonError

from .model import Model, Weights, read_json

# The parts of Stable Diffusion 1.5 that hold weights, with the names of their weight files.
STEMS = {"text_encoder": "model", "unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
PICKLES = {"text_encoder": "pytorch_model", "unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
PARTS = (*STEMS, "tokenizer", "scheduler")
ONLY_VAE = ("vae",)
USE_SD15 = "use a text-to-image model of Stable Diffusion 1.5's architecture that predicts noise"


def open_folder(folder: Path, name: str, parts: Sequence[str], allow_pickle: bool) -> Model:
    """The model in a folder in diffusers' layout. A folder for only the VAE may hold its files directly.

    Raises:
        AnonError: a part or its weights are missing, or it is another kind of model.
    """
    only_vae = tuple(parts) == ONLY_VAE
    if not only_vae:
        _check_index(folder)
    direct = only_vae and not (folder / "vae").is_dir()
    folders = {part: folder if direct else folder / part for part in parts}
    if missing := [part for part, path in folders.items() if not path.is_dir()]:
        raise AnonError(f"model {folder}", f"it lacks {', '.join(missing)}", "get an intact copy of the model")
    weights = {}
    for part in STEMS:
        if part in parts:
            names, variant = choose_weights([p.name for p in folders[part].iterdir()], part, allow_pickle, str(folder))
            weights[part] = Weights(tuple(folders[part] / n for n in names), variant)
    return Model(name, folders, weights)


def _check_index(folder: Path) -> None:
    index = folder / "model_index.json"
    if not index.is_file():
        raise AnonError(f"model {folder}", "it has no model_index.json", "name a folder in diffusers' layout")
    kind = read_json(index).get("_class_name")
    if kind != "StableDiffusionPipeline":
        raise AnonError(f"model {folder}", f"it is a {kind}, not a StableDiffusionPipeline", USE_SD15)


def choose_weights(names: Sequence[str], part: str, allow_pickle: bool, where: str) -> tuple[list[str], str | None]:
    """The files that hold a part's weights, and the variant in their names.

    Args:
        names: of all files of the part.
        part: one of `STEMS`.
        allow_pickle: accept pickles if there are no safetensors files.
        where: the model's name in messages.

    Raises:
        AnonError: there are no weights, or only pickles, which were not allowed.
    """
    stem = STEMS[part]
    for variant in (None, "fp16"):
        middle = f".{variant}" if variant else ""
        pattern = rf"{stem}(-\d+-of-\d+)?{re.escape(middle)}(-\d+-of-\d+)?\.safetensors"
        if found := sorted(name for name in names if re.fullmatch(pattern, name)):
            return found, variant
    pickles = sorted(name for name in names if re.fullmatch(rf"{PICKLES[part]}(-\d+-of-\d+)?\.bin", name))
    if not pickles:
        raise AnonError(f"model {where}", f"its {part} has no weights", "get an intact copy of the model")
    if not allow_pickle:
        why = f"the weights of its {part} are a Python pickle ({pickles[0]}), which can run code of its maker's choice"
        raise AnonError(f"model {where}", why, "get safetensors, or trust the file with `allow_pickle`")
    return pickles, None


def choose_files(names: Sequence[str], parts: Sequence[str], allow_pickle: bool, where: str) -> list[str]:
    """The files of a repository on the hub that a build needs.

    Raises:
        AnonError: a part is missing, or its weights are.
    """
    wanted = [name for name in names if name == "model_index.json"]
    for part in parts:
        own = {name.rpartition("/")[2]: name for name in names if name.rpartition("/")[0] == part}
        if not own and tuple(parts) == ONLY_VAE:
            own = {name: name for name in names if "/" not in name}
        if not own:
            raise AnonError(f"model {where}", f"it lacks {part}", USE_SD15)
        wanted += [name for short, name in own.items() if short.endswith((".json", ".txt"))]
        if part in STEMS:
            wanted += [own[short] for short in choose_weights(list(own), part, allow_pickle, where)[0]]
    return sorted(set(wanted))
