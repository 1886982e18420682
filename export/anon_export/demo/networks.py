"""The demo's attribute, age and ethnicity networks: small, with the signatures of FaRL and DeepFace."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from anon_runtime.faces.attributes import CELEBA, CLIP_MEAN, CLIP_STD, ETHNICITIES

WIDTHS = (16, 32, 64, 128)
OLDEST = 100
AROUND = (
    "Bald",
    "Bangs",
    "Black_Hair",
    "Blond_Hair",
    "Brown_Hair",
    "Gray_Hair",
    "Receding_Hairline",
    "Sideburns",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Earrings",
    "Wearing_Hat",
)
COLOURS = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Pale_Skin", "Rosy_Cheeks")
# The attribute network's members: the first pair was trained on unchanged faces and the second on disguised ones.
# Disguises teach a network to read the face itself. They hide hair and colours, which the first pair reads better.
PAIR = 2
FIRST_PAIRS = (*AROUND, *COLOURS, "Young")
MIDDLE = slice(70, 182), slice(56, 168)  # rows and columns of FaRL's crop from the brows to the chin


class FaceNet(nn.Module):
    """Attributes, age and ethnicity from a face. Training on all three improves the trunks of each engine.

    Args:
        closeup: whether a second trunk reads the middle in full resolution, for crops in which the face is small.
    """

    def __init__(self, *, closeup: bool) -> None:
        super().__init__()
        self.trunks = nn.ModuleList(_trunk() for _ in range(1 + closeup))
        width = WIDTHS[-1] * len(self.trunks)
        self.attributes = nn.Linear(width, len(CELEBA))
        self.age, self.race = nn.Linear(width, OLDEST + 1), nn.Linear(width, len(ETHNICITIES))

    def features(self, image: Tensor) -> Tensor:
        """Features (n, 128 * trunks) of images (n, 3, 224, 224), RGB, -1..1."""
        views = [functional.avg_pool2d(image, 2), image[..., MIDDLE[0], MIDDLE[1]]]
        return torch.cat([trunk(view) for trunk, view in zip(self.trunks, views, strict=False)], dim=1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of attributes (n, 40), ages (n, 101) and ethnicities (n, 6) for (n, 3, 224, 224), RGB, -1..1."""
        return self.heads(self.features(image))

    def heads(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same logits, from features."""
        return self.attributes(features), self.age(features), self.race(features)


def _trunk() -> nn.Sequential:
    layers: list[nn.Module] = []
    before = 3
    for width in WIDTHS:
        layers += [*_convolution(before, width, stride=2), *_convolution(width, width, stride=1)]
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3))


def _convolution(before: int, after: int, stride: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    return nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()


class AttributeNet(nn.Module):
    """FaRL's signature: (n, 3, 224, 224) RGB, CLIP-normalised -> (n, 40) probabilities."""

    mean: Tensor
    std: Tensor
    judged: Tensor
    shares: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.nets = nn.ModuleList(FaceNet(closeup=True) for _ in range(2 * PAIR))
        self.register_buffer("mean", torch.tensor(CLIP_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(CLIP_STD).view(3, 1, 1), persistent=False)
        judged = torch.tensor([float(name != "Attractive") for name in CELEBA])
        self.register_buffer("judged", judged, persistent=False)
        first = torch.tensor([float(name in FIRST_PAIRS) for name in CELEBA])
        shares = torch.stack([first] * PAIR + [1 - first] * PAIR) / PAIR
        self.register_buffer("shares", shares[:, None], persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Score the 40 attributes. The score of Attractive, which was not labelled, is always 0."""
        unit = image * self.std + self.mean
        logits = torch.stack([net(unit * 2 - 1)[0] for net in self.nets])
        return torch.sigmoid((logits * self.shares).sum(dim=0)) * self.judged


class DemographyNet(nn.Module):
    """DeepFace's signature: (n, 224, 224, 3) BGR in 0..1 -> (n, 101) age and (n, 6) ethnicity probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.net = FaceNet(closeup=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Score ages and ethnicities."""
        rgb = image.permute(0, 3, 1, 2).flip(1)
        _, age, race = self.net(rgb * 2 - 1)
        return torch.softmax(age, 1), torch.softmax(race, 1)
