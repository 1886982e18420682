"""Pre-training of the text encoder: the facts of a prompt are predicted from every token after its end.

The UNet's attention to text is uniform at first, so that it sees what all tokens have in common. With this training,
that is the content of the prompt. A text encoder that learns only through the UNet takes many times as long.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextModel

from anon_runtime.faces.attributes import CELEBA, ETHNICITIES
from anon_runtime.faces.prompt import STYLES, in_words, write_prompts
from anon_runtime.types import Attributes

from .denoiser import CONTENT, Windows
from .loop import Recipe, train

BATCH = 32
FACTS = len(CELEBA) + len(ETHNICITIES) + 4


def train_reader(text_encoder: CLIPTextModel, windows: Windows, recipe: Recipe, checkpoints: Path) -> None:
    """Train the text encoder and a temporary linear layer on prompts of made-up people."""
    readout = nn.Linear(text_encoder.config.hidden_size, FACTS)
    model = nn.ModuleDict({"text_encoder": text_encoder, "readout": readout})

    def loss(rng: np.random.Generator) -> Tensor:
        prompts, facts = zip(*(prompt_and_facts(rng) for _ in range(BATCH)), strict=True)
        ids = windows(list(prompts), 1)
        read = readout(text_encoder(ids).last_hidden_state)
        # From the end token on: CLIP's tokens attend only to tokens before them.
        after = torch.arange(CONTENT + 2) >= (ids == ids[0, -1]).int().argmax(dim=1, keepdim=True)
        expected = torch.tensor(np.stack(facts))[:, None].expand_as(read)
        return functional.binary_cross_entropy_with_logits(read[after], expected[after])

    train(model, loss, recipe, checkpoints, seed=5)


def prompt_and_facts(rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """A random prompt that fits into one window, and its facts.

    Returns:
        The prompt; float32 (FACTS,): which attributes it names, ethnicity, man, woman, age in centuries, and whether
        it is a positive one.
    """
    named = rng.random(len(CELEBA)) < rng.uniform(0.05, 0.4)
    home, years, male = ETHNICITIES[rng.integers(len(ETHNICITIES))], int(rng.integers(1, 81)), rng.random() < 0.5
    positive, style = rng.random() < 0.6, STYLES[int(rng.random() < 0.25)]
    person: Attributes = {"Ethnic": home, "Age": years, **dict.fromkeys(CELEBA, float(positive)), "Male": float(male)}
    unnamed = [name for name, said in zip(CELEBA, named, strict=True) if not said and name != "Male"]
    prompt = write_prompts(person, style, unnamed)[0 if positive else 1]
    said = [f" {name if style == 'paper' else in_words(name)} ," in prompt for name in CELEBA]
    about = [positive and home == ethnicity for ethnicity in ETHNICITIES]
    sex = [positive and male, positive and not male]
    return prompt, np.array([*said, *about, *sex, years / 100 * positive, positive], np.float32)
