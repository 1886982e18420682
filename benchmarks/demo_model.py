"""Quality of the demo's trained networks on labelled photos that they were not trained on.

    python -m benchmarks.demo_model DATA [--bundle engines/demo] [--grid docs/demo-grid.png] [--json FILE]

DATA is the folder that the networks were trained on (see ``python -m anon_export.demo.training --help``); only the
photos that were held out from training are used here. The networks are called through the runtime, as for a user's
photos. The benchmark prints a table of measurements and goals, and draws held-out photos beside their portraits.
"""

import argparse
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from anon_runtime import Anonymizer, Request, Settings
from anon_runtime.faces.attributes import CELEBA, ETHNICITIES
from anon_runtime.faces.prompt import write_prompts
from anon_runtime.types import Attributes, Description, Pixels

from .command_line import one_line_errors

with one_line_errors(__name__, extras="export,demo"):
    import torch
    from torch.nn import functional

    from anon_export.demo.contact_sheet import draw
    from anon_export.demo.training.captions import labelled
    from anon_export.demo.training.data import Photos, load_photos, split
    from anon_export.demo.weights import load_faces

    from .metrics import column_aucs

NAMED = ("Male", "Smiling", "Young", "Black_Hair", "Blond_Hair", "Gray_Hair")  # attributes with a goal of their own
# Images of scikit-image that show no person; one shows the face of a cat.
BACKGROUNDS = (
    "brick.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "horse.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "page.png",
    "retina.jpg",
    "rocket.jpg",
    "text.png",
)
FRAME = (480, 640)  # height and width in pixels
BATCH = 8


class Measurement(NamedTuple):
    """A row of the table.

    Attributes:
        what: was measured.
        value: of it.
        goal: the lowest acceptable value, or the highest one where lower is better; None where there is no goal.
        lower_is_better: as for an error.
    """

    what: str
    value: float
    goal: float | None = None
    lower_is_better: bool = False

    def line(self) -> str:
        """The row in Markdown."""
        if self.goal is None:
            return f"| {self.what} | {self.value:.3f} | | |"
        reached = self.value <= self.goal if self.lower_is_better else self.value >= self.goal
        goal, verdict = f"{'<=' if self.lower_is_better else '>='} {self.goal:g}", "" if reached else "missed"
        return f"| {self.what} | {self.value:.3f} | {goal} | {verdict} |"


def attribute_aucs(truth: Photos, read: Sequence[Attributes]) -> dict[str, float]:
    """AUC of every attribute that enough people have and enough people lack."""
    return column_aucs(
        CELEBA, truth.attributes.numpy(), np.array([[float(person[name]) for name in CELEBA] for person in read])
    )


def measure_detector(anonymizer: Anonymizer, photos: Photos) -> list[Measurement]:
    """Detection rate on photos that are pasted into images without people, and false alarms on these images alone."""
    rng, backgrounds = np.random.default_rng(0), [_background(name) for name in BACKGROUNDS]
    found, alarms, frames = 0, 0, 4 * len(BACKGROUNDS)
    for i in tqdm(range(len(photos)), desc="faces", unit="photo"):
        frame = _crop(backgrounds[rng.integers(len(backgrounds))], rng)
        side = round(FRAME[0] * rng.uniform(0.1, 0.8))
        y, x = rng.integers(0, FRAME[0] - side + 1), rng.integers(0, FRAME[1] - side + 1)
        pasted = Image.fromarray(photos.image(i)).resize((side, side), Image.Resampling.LANCZOS)
        frame[y : y + side, x : x + side] = np.asarray(pasted)
        box = photos.boxes[i] * side / photos.pixels.shape[-1] + (x, y, 0, 0)
        found += any(overlap(face.box, box) >= 0.5 for face in anonymizer.reader.detect([frame])[0])
    for k in tqdm(range(frames), desc="no faces", unit="image"):
        alarms += bool(anonymizer.reader.detect([_crop(backgrounds[k % len(BACKGROUNDS)], rng)])[0])
    return [
        Measurement(
            f"detector: {len(photos)} photos at 10-80 % of a frame, found at IoU 0.5", found / len(photos), 0.97
        ),
        Measurement(
            f"detector: share of {frames} images without people that have a false alarm",
            alarms / frames,
            0.05,
            lower_is_better=True,
        ),
    ]


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union (IoU) of two boxes, each x, y, width and height."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def _background(name: str) -> Image.Image:
    with Image.open(str(files("skimage") / "data" / name)) as image:
        return image.convert("RGB")


def _crop(image: Image.Image, rng: np.random.Generator) -> Pixels:
    """A random crop of an image, resized to `FRAME`."""
    share = rng.uniform(0.5, 1)
    width, height = round(image.width * share), round(image.height * share)
    x, y = int(rng.integers(0, image.width - width + 1)), int(rng.integers(0, image.height - height + 1))
    return np.array(image.crop((x, y, x + width, y + height)).resize(FRAME[::-1], Image.Resampling.BICUBIC))


def measure_attributes(anonymizer: Anonymizer, photos: Photos) -> list[Measurement]:
    """Attributes, age and ethnicity that are read from the photos, compared with the labels."""
    found = anonymizer.reader.describe_all([photos.image(i) for i in range(len(photos))])
    read = [result.attributes for result in found if isinstance(result, Description)]
    seen = photos.only(np.flatnonzero([isinstance(result, Description) for result in found]))
    aucs = attribute_aucs(seen, read)
    years = np.array([float(person["Age"]) for person in read]) - seen.ages.numpy()
    right = [person["Ethnic"] == ETHNICITIES[int(k)] for person, k in zip(read, seen.ethnicities, strict=True)]
    return [
        Measurement(f"attributes: mean AUC over {len(aucs)}", float(np.mean(list(aucs.values()))), 0.83),
        *(Measurement(f"attributes: {name}", aucs[name], 0.9) for name in NAMED),
        *(Measurement(f"attributes: {name}", value) for name, value in aucs.items() if name not in NAMED),
        Measurement("age: mean absolute error in years", float(np.abs(years).mean()), 6, lower_is_better=True),
        Measurement("ethnicity: accuracy", float(np.mean(right)), 0.68),
    ]


def generate(anonymizer: Anonymizer, people: Sequence[Attributes], settings: Settings, first_seed: int) -> list[Pixels]:
    """One image for each person, each with its own seed."""
    requests = [Request(*write_prompts(person), seed=first_seed + i) for i, person in enumerate(people)]
    images: list[Pixels] = []
    chosen = anonymizer.using(settings)
    for start in tqdm(range(0, len(requests), BATCH), desc="images", unit="batch", leave=False):
        batch = chosen.generate(requests[start : start + BATCH])
        images += [np.asarray(portrait.image) for portrait in batch]
    return images


def score_images(anonymizer: Anonymizer, truth: Photos, images: Sequence[Pixels]) -> tuple[dict[str, float], float]:
    """AUC of the attributes that are read from generated images, and the share of images with exactly one face.

    The true attributes are those of the prompts. An image without a face counts with a score of 0.5 for each.
    """
    reader, batches = anonymizer.reader, [images[k : k + BATCH] for k in range(0, len(images), BATCH)]
    one_face = np.mean([len(faces) == 1 for batch in batches for faces in reader.detect(batch)])
    unread: Attributes = dict.fromkeys(CELEBA, 0.5)
    found = [result for batch in batches for result in reader.describe_all(batch)]
    read = [result.attributes if isinstance(result, Description) else unread for result in found]
    return attribute_aucs(truth, read), float(one_face)


def measure_generator(anonymizer: Anonymizer, photos: Photos) -> list[Measurement]:
    """Images that are generated from the labels of the held-out photos."""
    people = [labelled(photos, i) for i in range(len(photos))]
    unguided = Settings(guidance_scale=1)
    guided, again = (generate(anonymizer, people, Settings(guidance_scale=7.5), seed) for seed in (1000, 2000))
    (with_guidance, one_face), (without, _) = (
        score_images(anonymizer, photos, images) for images in (guided, generate(anonymizer, people, unguided, 1000))
    )
    mean, plain = (float(np.mean(list(aucs.values()))) for aucs in (with_guidance, without))
    return [
        Measurement(f"generator: mean AUC over {len(with_guidance)} attributes of its prompts", mean, 0.75),
        *(Measurement(f"generator: {name}", with_guidance[name], 0.9 if name == "Male" else None) for name in NAMED),
        *(Measurement(f"generator: {name}", value) for name, value in with_guidance.items() if name not in NAMED),
        Measurement("generator: mean AUC at guidance 1", plain),
        Measurement("generator: gain in mean AUC by guidance 7.5", mean - plain, 0),
        Measurement("generator: images with exactly one face", one_face, 0.95),
        *measure_diversity(guided, again),
    ]


def features(images: Sequence[Pixels]) -> torch.Tensor:
    """Features (n, width) of images in the demo's attribute network, each of length 1."""
    net: Any = load_faces()[0].nets[0]
    tensor = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        parts = [net.features(functional.interpolate(p, (224, 224), mode="bilinear")) for p in tensor.split(BATCH)]
    return functional.normalize(torch.cat(parts), dim=1)


def measure_diversity(images: Sequence[Pixels], again: Sequence[Pixels]) -> list[Measurement]:
    """Distances between images of two seeds with the same prompt, and between images of two prompts."""

    def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(1 - (a * b).sum(dim=1).mean())

    first, second = features(images), features(again)
    pixels = np.mean([np.abs(a.astype(int) - b.astype(int)).mean() for a, b in zip(images, again, strict=True)])
    return [
        Measurement("two seeds, one prompt: mean pixel difference, of 255", float(pixels)),
        Measurement(
            "two seeds, one prompt: cosine distance of the attribute network's features", cosine(first, second)
        ),
        Measurement("two prompts: cosine distance of the same features", cosine(first, second.roll(1, dims=0))),
    ]


def draw_grid(anonymizer: Anonymizer, photos: Photos, path: Path, people: int = 8, side: int = 192) -> None:
    """Draw held-out photos, the words that were read from them, and their portraits; two people in a row."""
    grid = Image.new("RGB", (2 * 3 * side, people // 2 * side), "white")
    for place, chosen in enumerate(map(int, np.random.default_rng(1).permutation(len(photos))[:people])):
        photo = photos.image(chosen)
        portrait = anonymizer.anonymize(photo, seed=chosen)
        sheet = draw(Image.fromarray(photo), portrait.prompt, portrait.image, side)
        grid.paste(sheet, (place % 2 * 3 * side, place // 2 * side))
    path.parent.mkdir(parents=True, exist_ok=True)
    grid.save(path, optimize=True)


def main() -> None:
    """Measure, print the table and draw the grid."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the training data")
    parser.add_argument("--bundle", type=Path, default=Path("engines/demo"), help="default: %(default)s")
    parser.add_argument("--grid", type=Path, help="also draw photos beside portraits in this PNG file")
    parser.add_argument("--json", type=Path, help="also write the measurements to this file")
    options = parser.parse_args()
    _, photos = split(load_photos(options.data))
    anonymizer = Anonymizer.load(options.bundle, Settings(guard="off"))
    if options.grid:
        draw_grid(anonymizer, photos, options.grid)
    parts = (measure_detector, measure_attributes, measure_generator)
    measurements = [measurement for measure in parts for measurement in measure(anonymizer, photos)]
    print("| what | measured | goal | |\n|---|---|---|---|")
    for measurement in measurements:
        print(measurement.line())
    if options.json:
        options.json.write_text(json.dumps([measurement._asdict() for measurement in measurements], indent=2))


if __name__ == "__main__":
    with one_line_errors(__name__, extras="export,demo"):
        main()
