"""The sources of models: a hub name, a folder or a checkpoint file -> a `Model` on this disk. Needs no torch."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from anon_runtime.errors import AnonError

from . import hub, single_file
from .diffusers_layout import ONLY_VAE, PARTS, STEMS, USE_SD15, choose_files, open_folder
from .model import Model, Weights

# Names of this project for a model and a VAE on the hub, each with a commit. This is the paper's model.
ALIASES = {
    "realistic-vision": (
        ("SG161222/Realistic_Vision_V5.1_noVAE", "1e9f017a7b1eaefb63a1900ea6c5953d2739fd21"),
        ("stabilityai/sd-vae-ft-mse", "31f26fdeee1355a5c34592e401dd41e45d25a493"),
    )
}


def find_model(
    name: str, scratch: Path, *, vae: str | None = None, revision: str | None = None, allow_pickle: bool = False
) -> Model:
    """Find a model, download what is missing of it, and check that the runtime can generate with it.

    Args:
        name: an alias, a hub name such as ``runwayml/stable-diffusion-v1-5``, a folder in diffusers' layout, or a
            checkpoint file.
        scratch: a folder for configs that a checkpoint file lacks. It has to exist as long as the model is used.
        vae: another VAE: a hub name, a folder, or a file.
        revision: a commit, tag or branch on the hub.
        allow_pickle: read weights that are Python pickles, which can run code of their maker's choice.

    Raises:
        AnonError: there is no such model, it is of another kind, or it cannot be downloaded.
    """
    vae_revision = None
    if name in ALIASES:
        (place, revision), own_vae = ALIASES[name]
        model = replace(_find(place, revision, scratch / "model", PARTS, allow_pickle), name=name)
        vae, vae_revision = (vae, None) if vae else own_vae
    else:
        model = _find(name, revision, scratch / "model", PARTS, allow_pickle)
    if vae:
        other = _find(vae, vae_revision, scratch / "vae", ONLY_VAE, allow_pickle)
        model = replace(
            model,
            folders={**model.folders, "vae": other.folders["vae"]},
            weights={**model.weights, "vae": other.weights["vae"]},
            vae=other.name,
            vae_revision=other.revision,
        )
    check_architecture(model)
    return model


def _find(place: str, revision: str | None, scratch: Path, parts: Sequence[str], allow_pickle: bool) -> Model:
    """The parts of a model at a place: a file, a folder or a name on the hub."""
    path = Path(place).expanduser()
    if path.is_file():
        single_file.check(path, allow_pickle=allow_pickle, vae_only=parts == ONLY_VAE)
        folders = single_file.write_configs(scratch)
        weights = {part: Weights((path,)) for part in STEMS if part in parts}
        return Model(path.name, {part: folders / part for part in parts}, weights, path)
    if path.is_dir():
        return open_folder(path, path.resolve().name, parts, allow_pickle)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", place):
        kind = "vae" if parts == ONLY_VAE else "model"
        why = "it is no alias, no name on the hub such as owner/model, and no folder or file on this machine"
        raise AnonError(f"{kind} {place}", why, f"check the path, or use one of: demo, {', '.join(ALIASES)}")

    def choose(names: Sequence[str]) -> list[str]:
        return choose_files(names, parts, allow_pickle, place)

    folder, commit = hub.fetch(place, revision, choose)
    return replace(open_folder(folder, place, parts, allow_pickle), revision=commit)


def check_architecture(model: Model) -> None:
    """Refuse relatives of Stable Diffusion 1.5 that the runtime cannot generate with.

    Raises:
        AnonError: names the kind of model.
    """
    unet, vae = model.config("unet"), model.config("vae")
    predicts = model.config("scheduler", "scheduler_config.json").get("prediction_type", "epsilon")
    channels = unet.get("in_channels", 4)
    kinds = {
        f"its UNet takes {channels} channels (an inpainting or depth model)": channels != 4,
        "its UNet needs more than a prompt (a class, a time or an added embedding)": any(
            unet.get(key) for key in ("class_embed_type", "addition_embed_type", "time_cond_proj_dim")
        ),
        f"it predicts {predicts}": predicts != "epsilon",
        f"its VAE has {vae.get('latent_channels', 4)} latent channels": vae.get("latent_channels", 4) != 4,
    }
    for why, refused in kinds.items():
        if refused:
            raise AnonError(f"model {model.name}", why, USE_SD15)
