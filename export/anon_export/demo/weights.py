"""The demo's trained weights: safetensors files in this package, which weights/MODEL_CARD.md describes."""

from importlib.resources import as_file, files
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTokenizer

from anon_runtime.bundle.integrity import sha256
from anon_runtime.faces.attributes import CELEBA, ETHNICITIES
from anon_runtime.faces.prompt import STYLES, write_prompts

from .generator import DEMO, Parts, make_parts, write_model
from .networks import AttributeNet, DemographyNet

FOLDER = files(__package__) / "weights"
GENERATOR, FACES = "generator.safetensors", "faces.safetensors"
_EMBEDDING = "text_encoder.text_model.embeddings.token_embedding.weight"
_SCALING = "vae_scaling_factor"
_STEP = ".step"


def write_demo(folder: Path) -> None:
    """Write the trained generator as a diffusers folder."""
    with as_file(FOLDER / GENERATOR) as path:
        write_model(folder, load_generator(path))


def load_generator(path: Path) -> Parts:
    """The trained generator. Words that were not in its training have the mean embedding of those that were."""
    parts = make_parts(DEMO)
    tensors, metadata = _read(path)
    tokens, rows = tensors.pop("tokens").long(), tensors.pop("token_rows")
    table = rows.mean(dim=0).repeat(parts.text_encoder.config.vocab_size, 1)
    table[tokens] = rows
    _fill(_generator_modules(parts), tensors | {_EMBEDDING: table})
    parts.vae.register_to_config(scaling_factor=float(metadata[_SCALING]))
    return parts


def save_generator(path: Path, parts: Parts, tokenizer: CLIPTokenizer) -> None:
    """Write a generator's weights. Of CLIP's token embeddings, only those that occur in training are written."""
    tensors = _tensors(_generator_modules(parts))
    tokens = known_tokens(tokenizer)
    tensors["token_rows"] = tensors.pop(_EMBEDDING)[tokens]
    scaling = {_SCALING: str(parts.vae.config.scaling_factor)}
    save_file(tensors | {"tokens": torch.tensor(tokens, dtype=torch.int32)}, path, scaling)


def load_faces() -> tuple[AttributeNet, DemographyNet]:
    """The trained attribute, age and ethnicity networks."""
    attributes, demography = AttributeNet(), DemographyNet()
    with as_file(FOLDER / FACES) as path:
        _fill({"attributes": attributes, "demography": demography}, _from_bytes(_read(path)[0]))
    return attributes, demography


def faces_digest() -> str:
    """sha256 of the file of the face networks."""
    with as_file(FOLDER / FACES) as path:
        return sha256(path)


def save_faces(path: Path, attributes: AttributeNet, demography: DemographyNet) -> None:
    """Write the weights of the face networks; those of the attribute network take a byte each."""
    save_file(_to_bytes(_tensors({"attributes": attributes})) | _tensors({"demography": demography}), path)


def known_tokens(tokenizer: CLIPTokenizer) -> list[int]:
    """Every token that prompts of Algorithm 1 can hold, and CLIP's start and end tokens."""
    prompts = ["0 1 2 3 4 5 6 7 8 9"]
    for style in STYLES:
        for sex in (0, 1):
            for score in (0, 1):
                for ethnicity in ETHNICITIES:
                    person = {"Ethnic": ethnicity, "Age": 1, **dict.fromkeys(CELEBA, score), "Male": sex}
                    prompts += write_prompts(person, style)
    return sorted({token for prompt in prompts for token in tokenizer(prompt).input_ids})


def _generator_modules(parts: Parts) -> dict[str, nn.Module]:
    return {"unet": parts.unet, "vae": parts.vae, "text_encoder": parts.text_encoder}


def _tensors(modules: dict[str, nn.Module]) -> dict[str, Tensor]:
    """All weights by name, contiguous and in half precision."""
    states = {f"{part}.{name}": t for part, module in modules.items() for name, t in module.state_dict().items()}
    return {name: t.half().contiguous() if t.is_floating_point() else t for name, t in states.items()}


def _to_bytes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Filters and matrices as 8-bit integers with one scale per row: the largest weight of a row becomes 127."""
    stored = {}
    for name, tensor in tensors.items():
        if tensor.ndim < 2:
            stored[name] = tensor
            continue
        rows = tensor.float().flatten(1)
        step = rows.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
        stored |= {name: (rows / step).round().to(torch.int8).view(tensor.shape), name + _STEP: step}
    return stored


def _from_bytes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    steps = {name.removesuffix(_STEP): step for name, step in tensors.items() if name.endswith(_STEP)}
    plain = {name: tensor for name, tensor in tensors.items() if not name.endswith(_STEP)}
    return plain | {name: (plain[name].flatten(1) * step).view(plain[name].shape) for name, step in steps.items()}


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (the file is no mapping)
        return {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}, file.metadata() or {}


def _fill(modules: dict[str, nn.Module], tensors: dict[str, Tensor]) -> None:
    for part, module in modules.items():
        prefix = f"{part}."
        module.load_state_dict({n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)})
        module.eval().requires_grad_(False)
