"""What the demo's trained networks can do, on labelled photos that they were not trained on.

    python -m benchmarks.demo_model DATA [--bundle engines/demo] [--grid docs/demo-grid.png] [--json FILE]

DATA is what the networks were trained on (see ``python -m anon_export.demo.training --help``); the photos that were
held out there are used here. Everything goes through the runtime, as a user's photos do. Prints a table of figures and
goals, and draws held-out photos beside the portraits that come of them.
"""

import argparse
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional
from tqdm import tqdm

from anon_export.demo.contact_sheet import draw
from anon_export.demo.training.captions import labelled
from anon_export.demo.training.data import Photos, load_photos, split
from anon_export.demo.weights import load_faces
from anon_runtime import Anonymizer, Request, Settings
from anon_runtime.faces.attributes import CELEBA, ETHNICITIES, Attributes
from anon_runtime.faces.detection import DETECTORS, detect
from anon_runtime.faces.prompt import write_prompts
from anon_runtime.types import Description

from .metrics import column_aucs

NAMED = ("Male", "Smiling", "Young", "Black_Hair", "Blond_Hair", "Gray_Hair")
# Images of scikit-image's that show nobody; one is a cat's face.
EMPTY = ("brick.png", "chelsea.png", "coffee.png", "coins.png", "grass.png", "gravel.png", "horse.png",
         "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg",
         "text.png")  # fmt: skip
FRAME = (480, 640)
BATCH = 8
Pixels = NDArray[np.uint8]


class Figure(NamedTuple):
    """A line of the table: what was measured, and the least (or, where ``most``, the greatest) it should be."""

    what: str
    value: float
    goal: float | None = None
    most: bool = False

    def line(self) -> str:
        """As Markdown."""
        if self.goal is None:
            return f"| {self.what} | {self.value:.3f} | | |"
        fine = self.value <= self.goal if self.most else self.value >= self.goal
        goal, verdict = f"{'<=' if self.most else '>='} {self.goal:g}", "" if fine else "missed"
        return f"| {self.what} | {self.value:.3f} | {goal} | {verdict} |"


def attribute_aucs(truth: Photos, read: Sequence[Attributes]) -> dict[str, float]:
    """AUC of every attribute that has enough photos of both kinds."""
    return column_aucs(
        CELEBA, truth.attributes.numpy(), np.array([[float(person[name]) for name in CELEBA] for person in read])
    )


def detector_figures(anonymizer: Anonymizer, photos: Photos) -> list[Figure]:
    """Photos pasted at 10-80 % of a frame onto images of something else, and the same images without them."""
    rng, backgrounds = np.random.default_rng(0), [_background(name) for name in EMPTY]
    engine, detector = anonymizer.engine("face_detector"), DETECTORS[anonymizer.bundle.spec("face_detector").signature]
    found, alarms, frames = 0, 0, 4 * len(EMPTY)
    for i in tqdm(range(len(photos)), desc="faces", unit="photo"):
        frame = _crop(backgrounds[rng.integers(len(backgrounds))], rng)
        side = round(FRAME[0] * rng.uniform(0.1, 0.8))
        y, x = rng.integers(0, FRAME[0] - side + 1), rng.integers(0, FRAME[1] - side + 1)
        pasted = Image.fromarray(photos.image(i)).resize((side, side), Image.Resampling.LANCZOS)
        frame[y : y + side, x : x + side] = np.asarray(pasted)
        box = photos.boxes[i] * side / photos.pixels.shape[-1] + (x, y, 0, 0)
        found += any(overlap(face.box, box) >= 0.5 for face in detect(engine, detector, [frame])[0])
    for k in tqdm(range(frames), desc="no faces", unit="image"):
        alarms += bool(detect(engine, detector, [_crop(backgrounds[k % len(EMPTY)], rng)])[0])
    return [
        Figure(f"detector: {len(photos)} photos at 10-80 % of a frame, found at IoU 0.5", found / len(photos), 0.97),
        Figure(f"detector: share of {frames} images of nobody with a false alarm", alarms / frames, 0.05, most=True),
    ]


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes x, y, width, height."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def _background(name: str) -> Image.Image:
    with Image.open(str(files("skimage") / "data" / name)) as image:
        return image.convert("RGB")


def _crop(image: Image.Image, rng: np.random.Generator) -> Pixels:
    """A random part of an image, brought to the size of a frame."""
    share = rng.uniform(0.5, 1)
    width, height = round(image.width * share), round(image.height * share)
    x, y = rng.integers(0, image.width - width + 1), rng.integers(0, image.height - height + 1)
    return np.array(image.crop((x, y, x + width, y + height)).resize(FRAME[::-1], Image.Resampling.BICUBIC))


def reading_figures(anonymizer: Anonymizer, photos: Photos) -> list[Figure]:
    """Attributes, age and ethnicity read from the photos."""
    found = anonymizer.describe_all([photos.image(i) for i in range(len(photos))])
    read = [result.attributes for result in found if isinstance(result, Description)]
    seen = photos.only(np.flatnonzero([isinstance(result, Description) for result in found]))
    aucs = attribute_aucs(seen, read)
    years = np.array([float(person["Age"]) for person in read]) - seen.ages.numpy()
    right = [person["Ethnic"] == ETHNICITIES[int(k)] for person, k in zip(read, seen.ethnicities, strict=True)]
    return [
        Figure(f"attributes: mean AUC over {len(aucs)}", float(np.mean(list(aucs.values()))), 0.83),
        *(Figure(f"attributes: {name}", aucs[name], 0.9) for name in NAMED),
        *(Figure(f"attributes: {name}", value) for name, value in aucs.items() if name not in NAMED),
        Figure("age: mean absolute error in years", float(np.abs(years).mean()), 6, most=True),
        Figure("ethnicity: accuracy", float(np.mean(right)), 0.68),
    ]


def generate(anonymizer: Anonymizer, people: Sequence[Attributes], settings: Settings, first_seed: int) -> list[Pixels]:
    """An image of each person, each with a seed of its own."""
    requests = [Request(*write_prompts(person), seed=first_seed + i) for i, person in enumerate(people)]
    images: list[Pixels] = []
    for start in tqdm(range(0, len(requests), BATCH), desc="images", unit="batch", leave=False):
        batch = anonymizer.generate(requests[start : start + BATCH], settings)
        images += [np.asarray(portrait.image) for portrait in batch]
    return images


def judge(anonymizer: Anonymizer, truth: Photos, images: Sequence[Pixels]) -> tuple[dict[str, float], float]:
    """AUC of the attribute engine on generated images against their prompts, and the share with exactly one face.

    An image without a face counts with scores that say nothing.
    """
    engine, detector = anonymizer.engine("face_detector"), DETECTORS[anonymizer.bundle.spec("face_detector").signature]
    alone = np.mean([len(faces) == 1 for faces in detect(engine, detector, images)])
    unread: Attributes = dict.fromkeys(CELEBA, 0.5)
    found = anonymizer.describe_all(images)
    read = [result.attributes if isinstance(result, Description) else unread for result in found]
    return attribute_aucs(truth, read), float(alone)


def generating_figures(anonymizer: Anonymizer, photos: Photos) -> list[Figure]:
    """Images generated from the held-out photos' labels."""
    people = [labelled(photos, i) for i in range(len(photos))]
    plainly = Settings(guidance_scale=1)
    guided, again = (generate(anonymizer, people, Settings(guidance_scale=7.5), seed) for seed in (1000, 2000))
    (with_guidance, alone), (without, _) = (
        judge(anonymizer, photos, images) for images in (guided, generate(anonymizer, people, plainly, 1000))
    )
    mean, plain = (float(np.mean(list(aucs.values()))) for aucs in (with_guidance, without))
    return [
        Figure(f"generator: mean AUC over {len(with_guidance)} attributes of its prompts", mean, 0.75),
        *(Figure(f"generator: {name}", with_guidance[name], 0.9 if name == "Male" else None) for name in NAMED),
        *(Figure(f"generator: {name}", value) for name, value in with_guidance.items() if name not in NAMED),
        Figure("generator: mean AUC at guidance 1", plain),
        Figure("generator: what guidance 7.5 adds to it", mean - plain, 0),
        Figure("generator: images with exactly one face", alone, 0.95),
        *distance_figures(guided, again),
    ]


def distance_figures(images: Sequence[Pixels], again: Sequence[Pixels]) -> list[Figure]:
    """How far apart two seeds' images of one prompt are, beside images of two prompts."""
    net = load_faces()[0].nets[0]

    def features(batch: Sequence[Pixels]) -> torch.Tensor:
        tensor = torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.no_grad():
            return functional.normalize(
                net.features(functional.interpolate(tensor, (224, 224), mode="bilinear")), dim=1
            )

    def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(1 - (a * b).sum(dim=1).mean())

    first, second = features(images), features(again)
    pixels = np.mean([np.abs(a.astype(int) - b.astype(int)).mean() for a, b in zip(images, again, strict=True)])
    return [
        Figure("two seeds, one prompt: mean pixel difference of 255", float(pixels)),
        Figure("two seeds, one prompt: cosine distance of the attribute network's features", cosine(first, second)),
        Figure("two prompts: the same distance", cosine(first, second.roll(1, dims=0))),
    ]


def draw_grid(anonymizer: Anonymizer, photos: Photos, path: Path, people: int = 8, side: int = 192) -> None:
    """Held-out photos, the words that were read from each, and the portraits generated from those; two in a row."""
    grid = Image.new("RGB", (2 * 3 * side, people // 2 * side), "white")
    for place, chosen in enumerate(map(int, np.random.default_rng(1).permutation(len(photos))[:people])):
        photo = photos.image(chosen)
        portrait = anonymizer.anonymize(photo, seed=chosen)
        sheet = draw(Image.fromarray(photo), portrait.prompt, portrait.image, side)
        grid.paste(sheet, (place % 2 * 3 * side, place // 2 * side))
    path.parent.mkdir(parents=True, exist_ok=True)
    grid.save(path, optimize=True)


def main() -> None:
    """Measure, print the table, draw the grid."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--bundle", type=Path, default=Path("engines/demo"))
    parser.add_argument("--grid", type=Path, help="where to draw photos beside portraits, as PNG")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    _, photos = split(load_photos(options.data))
    anonymizer = Anonymizer.load(options.bundle)
    if options.grid:
        draw_grid(anonymizer, photos, options.grid)
    figures = [f for make in (detector_figures, reading_figures, generating_figures) for f in make(anonymizer, photos)]
    print("| what | figure | goal | |\n|---|---|---|---|")
    for figure in figures:
        print(figure.line())
    if options.json:
        options.json.write_text(json.dumps([figure._asdict() for figure in figures], indent=2))


if __name__ == "__main__":
    main()
