"""Where a model comes from: a hub name, a folder or a checkpoint file -> a `Model` on this disk, without torch."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anon_runtime.bundle.integrity import sha256_all
from anon_runtime.bundle.manifest import Source
from anon_runtime.errors import AnonError

from . import hub, single_file
from .tensor_shapes import read_shapes

# The parts of Stable Diffusion 1.5 that hold weights, with the name of their weight files in diffusers' layout.
STEMS = {"text_encoder": "model", "unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
PICKLES = {"text_encoder": "pytorch_model", "unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
PARTS = (*STEMS, "tokenizer", "scheduler")
USE_SD15 = "use a text-to-image model of Stable Diffusion 1.5's architecture that predicts noise"
# The paper's model and VAE.
ALIASES = {
    "realistic-vision": (
        ("SG161222/Realistic_Vision_V5.1_noVAE", "1e9f017a7b1eaefb63a1900ea6c5953d2739fd21"),
        ("stabilityai/sd-vae-ft-mse", "31f26fdeee1355a5c34592e401dd41e45d25a493"),
    )
}


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
        name: what the user called it, without the path of a local folder.
        folders: one a part, in diffusers' layout; those of a checkpoint file hold its configs only.
        weights: one a part that has any; the parts of a checkpoint file share it.
        checkpoint: the single file that holds the parts, if it is one.
        revisions: hub names and commits of the model and of the VAE that replaces its own.
        vae: the name of that VAE.
    """

    name: str
    folders: Mapping[str, Path]
    weights: Mapping[str, Weights]
    checkpoint: Path | None = None
    vae: str | None = None
    revisions: Mapping[str, str] = field(default_factory=dict)

    def config(self, part: str, name: str = "config.json") -> dict[str, Any]:
        """A part's JSON file.

        Raises:
            AnonError: it is missing or garbled.
        """
        return read_json(self.folders[part] / name)

    @property
    def copied(self) -> list[Path]:
        """The files that a bundle gets as they are: index, scheduler config and tokenizer."""
        index, scheduler = self.folders["unet"].parent / "model_index.json", self.folders["scheduler"]
        tokenizer = sorted(path for path in self.folders["tokenizer"].rglob("*") if path.is_file())
        return [index, scheduler / "scheduler_config.json", *tokenizer]

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of weights in fp32, by part, whatever precision the files have.

        Raises:
            AnonError: a file is not intact.
        """
        return {part: sum(self._size(part, path) for path in weights.paths) for part, weights in self.weights.items()}

    def _size(self, part: str, path: Path) -> int:
        shapes = read_shapes(path)
        own = {name: shape for name, shape in shapes.items() if name.startswith(single_file.PREFIXES[part])}
        values = sum(math.prod(shape) for shape in (own or shapes).values())
        return 4 * values or path.stat().st_size  # of a pickle that tells nothing

    def source(self) -> Source:
        """The record for the manifest, with the sha256 of every weight file.

        Raises:
            AnonError: a file is not what the hub says it is.
        """
        paths = sorted({path for weights in self.weights.values() for path in weights.paths})
        digests = sha256_all(paths)
        for path, digest in digests.items():
            hub.check_digest(path, digest)
        names = {path: path.name if path == self.checkpoint else f"{path.parent.name}/{path.name}" for path in paths}
        return Source(
            self.name, self.revisions.get("model"), self.vae, self.revisions.get("vae"),
            {names[path]: digest for path, digest in digests.items()},
        )  # fmt: skip

    def digests(self, part: str, source: Source) -> list[str]:
        """The sha256 of a part's weight files, from `source`."""
        paths = self.weights[part].paths
        return [
            source.files[path.name if path == self.checkpoint else f"{path.parent.name}/{path.name}"] for path in paths
        ]


def find_model(
    name: str, scratch: Path, *, vae: str | None = None, revision: str | None = None, allow_pickle: bool = False
) -> Model:
    """Find a model, download what is missing of it, and check that it is one that the runtime can generate with.

    Args:
        name: an alias, a hub name such as ``runwayml/stable-diffusion-v1-5``, a folder in diffusers' layout, or a
            checkpoint file.
        scratch: a folder for configs that a checkpoint file lacks; it has to live as long as the model.
        vae: another VAE: a hub name, a folder, or a file.
        revision: a commit, tag or branch on the hub.
        allow_pickle: read weights that are Python pickles, which can run code of their maker's choice.

    Raises:
        AnonError: there is no such model, it is of another kind, or it cannot be downloaded.
    """
    revisions: dict[str, str] = {}
    (repository, revision), own_vae = ALIASES.get(name, ((name, revision), None))
    model = _find(repository, name, revision, scratch / "model", PARTS, allow_pickle, revisions, "model")
    other, other_revision = (vae, None) if vae else own_vae or (None, None)
    if other is not None:
        theirs = _find(other, other, other_revision, scratch / "vae", ("vae",), allow_pickle, revisions, "vae")
        model = Model(
            model.name, {**model.folders, "vae": theirs.folders["vae"]},
            {**model.weights, "vae": theirs.weights["vae"]}, model.checkpoint, theirs.name, revisions,
        )  # fmt: skip
    check_architecture(model)
    return model


def _find(
    where: str, name: str, revision: str | None, scratch: Path, parts: Sequence[str], allow_pickle: bool,
    revisions: dict[str, str], kind: str,
) -> Model:  # fmt: skip
    path = Path(where).expanduser()
    if path.is_file():
        single_file.check(path, allow_pickle=allow_pickle, vae_only=parts == ("vae",))
        folders = single_file.write_configs(scratch)
        weights = {part: Weights((path,)) for part in STEMS if part in parts}
        return Model(path.name, {part: folders / part for part in parts}, weights, path)
    if path.is_dir():
        return _from_folder(path, path.resolve().name, parts, allow_pickle)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", where):
        why = "it is no alias, no name on the hub such as owner/model, and no folder or file on this machine"
        raise AnonError(f"{kind} {where}", why, f"check the path, or use one of: demo, {', '.join(ALIASES)}")

    def choose(names: Sequence[str]) -> list[str]:
        return choose_files(names, parts, allow_pickle, where)

    folder, revisions[kind] = hub.fetch(where, revision, choose)
    return _from_folder(folder, name, parts, allow_pickle, revisions)


def _from_folder(
    folder: Path, name: str, parts: Sequence[str], allow_pickle: bool, revisions: Mapping[str, str] | None = None
) -> Model:
    """A folder in diffusers' layout; a VAE may also be a folder of its own."""
    only_vae = tuple(parts) == ("vae",)
    if not only_vae:
        _check_index(folder)
    alone = only_vae and not (folder / "vae").is_dir()
    folders = {part: folder if alone else folder / part for part in parts}
    if missing := [part for part, path in folders.items() if not path.is_dir()]:
        raise AnonError(f"model {folder}", f"it lacks {', '.join(missing)}", "get an intact copy of the model")
    weights = {}
    for part in STEMS:
        if part in parts:
            names, variant = choose_weights([p.name for p in folders[part].iterdir()], part, allow_pickle, str(folder))
            weights[part] = Weights(tuple(folders[part] / n for n in names), variant)
    return Model(name, folders, weights, revisions=revisions or {})


def choose_weights(names: Sequence[str], part: str, allow_pickle: bool, where: str) -> tuple[list[str], str | None]:
    """Which of a part's files hold its weights, and the variant in their names.

    Raises:
        AnonError: there are none, or only pickles, which were not allowed.
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
        if not own and tuple(parts) == ("vae",):
            own = {name: name for name in names if "/" not in name}
        if not own:
            raise AnonError(f"model {where}", f"it lacks {part}", USE_SD15)
        wanted += [name for short, name in own.items() if short.endswith((".json", ".txt"))]
        if part in STEMS:
            wanted += [own[short] for short in choose_weights(list(own), part, allow_pickle, where)[0]]
    return sorted(set(wanted))


def check_architecture(model: Model) -> None:
    """Refuse relatives of Stable Diffusion 1.5 that the runtime cannot generate with.

    Raises:
        AnonError: says which kind of model it is.
    """
    unet, vae = model.config("unet"), model.config("vae")
    predicts = model.config("scheduler", "scheduler_config.json").get("prediction_type", "epsilon")
    channels = unet.get("in_channels", 4)
    kinds = {
        f"its UNet takes {channels} channels (an inpainting or depth model)": channels != 4,
        "its UNet wants more than a prompt (a class, a time or an added embedding)": any(
            unet.get(key) for key in ("class_embed_type", "addition_embed_type", "time_cond_proj_dim")
        ),
        f"it predicts {predicts}": predicts != "epsilon",
        f"its VAE has {vae.get('latent_channels', 4)} latent channels": vae.get("latent_channels", 4) != 4,
    }
    for why, refused in kinds.items():
        if refused:
            raise AnonError(f"model {model.name}", why, USE_SD15)


def _check_index(folder: Path) -> None:
    index = folder / "model_index.json"
    if not index.is_file():
        raise AnonError(f"model {folder}", "it has no model_index.json", "name a folder in diffusers' layout")
    kind = read_json(index).get("_class_name")
    if kind != "StableDiffusionPipeline":
        raise AnonError(f"model {folder}", f"it is a {kind}, not a StableDiffusionPipeline", USE_SD15)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a model's folder.

    Raises:
        AnonError: it is missing or garbled.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        why = f"it cannot be read ({error.strerror})"
        raise AnonError(str(path), why, "get an intact copy of the model") from None
    except ValueError:
        raise AnonError(str(path), "it is not JSON", "get an intact copy of the model") from None
    if not isinstance(content, dict):
        raise AnonError(str(path), "it is no JSON object", "get an intact copy of the model")
    return content
