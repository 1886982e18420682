"""All attackers side by side: what each of them knows, and how many people he finds again."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

import numpy as np
from tqdm import tqdm

from ..encoders import Dlib
from ..galleries import rates
from ..pairs import Method
from ..reidentification import Doubles, similarity
from ..study import Faces, Study, attempt
from ..types import Figures
from .matching import one_to_one
from .repaint import SEED_KNOWN, Repainted, evaluate_repaint
from .trained import Pair, everything, network, procrustes
from .words import combine, exact_words, within_cells, words

Kind = Literal["baseline", "attacker", "with the seed"]
JUDGE = Dlib.name  # the network of the attackers who use one of several; no guard uses it
BAND = "ethnicity, sex and age band"
PHOTOS = "the photos of all people"
READS = f"{PHOTOS}, the engines and the settings"


@dataclass(frozen=True)
class Attacker:
    """An attacker on the n images of one method, among m originals.

    Attributes:
        name: in the report.
        knows: what he has beside the images.
        kind: a baseline looks at no image.
        attack: gives the similarities (n, m) of images to originals, or what is missing.
        told: what else the report says of the attack.
    """

    name: str
    knows: str
    kind: Kind
    attack: Callable[[], Doubles | Figures]
    told: Figures = field(default_factory=dict)


def evaluate_attackers(study: Study) -> Figures:
    """Re-identification by every attacker and method; see `galleries.rates` for the figures.

    Who has painted with the run's seed also says how the ``seed`` is known, and the share of portraits that were
    ``painted again exactly``.
    """
    found: Figures = {}
    repainted = evaluate_repaint(study)
    for method in study.methods:
        own, masks, read = list(method.pairs), study.masks(method), _reading(study, method)
        line_up = [
            *_baselines(study, method),
            *_naive(study, method),
            *_readers(study, method, read),
            *_trained(study, method, read),
            *_painters(repainted[method.name]),
        ]
        for attacker in tqdm(line_up, desc=f"attackers: {method.name}", unit="attacker"):
            made = attempt(attacker.attack)
            row = found.setdefault(attacker.name, {"knows": attacker.knows, "kind": attacker.kind, "methods": {}})
            rated = made if isinstance(made, dict) else rates(made, own, study.people, masks)
            row["methods"][method.name] = rated | attacker.told
    return found


def _baselines(study: Study, method: Method) -> Iterator[Attacker]:
    """Who has not seen the image: chance, and what the words alone give away."""
    own, equal = list(method.pairs), np.zeros((len(method.pairs), len(study.originals)))
    yield Attacker("guessing", "how many people there are", "baseline", lambda: equal)
    within = f"guessing, {BAND} known"
    yield Attacker(within, f"{BAND} of everybody", "baseline", lambda: within_cells(equal, own, study.cells))
    knows = "the exact prompt, and the attributes of everybody"
    yield Attacker(
        "knows the exact words",
        knows,
        "baseline",
        lambda: exact_words(study.reading, own, method.coarsening, method.ignored),
    )


def _naive(study: Study, method: Method) -> Iterator[Attacker]:
    for name, faces in study.faces.items():
        if isinstance(faces, Faces):
            yield Attacker(f"looks at faces: {name}", PHOTOS, "attacker", _compare(faces, method))


def _compare(faces: Faces, method: Method) -> Callable[[], Doubles]:
    queries = faces.methods[method.name].vectors
    return lambda: similarity(queries, faces.gallery.vectors, faces.metric)


def _readers(study: Study, method: Method, read: Callable[[], Doubles]) -> Iterator[Attacker]:
    """Who has the engines and reads the words from the portraits, alone and together with a look at the faces."""

    @cache
    def match() -> Doubles:
        return words(read(), study.reading, method.ignored)

    yield Attacker("reads the words", READS, "attacker", match)
    knows = f"{READS}, and that each portrait shows another person"
    yield Attacker("reads the words of all portraits at once", knows, "attacker", lambda: one_to_one(match()))
    judge = study.faces.get(JUDGE)
    if isinstance(judge, Faces):
        look, own = _compare(judge, method), list(method.pairs)
        yield Attacker("face and words", READS, "attacker", lambda: combine(look(), match()))
        knows = f"{PHOTOS}, and {BAND} of everybody"
        yield Attacker(f"face, {BAND} known", knows, "attacker", lambda: within_cells(look(), own, study.cells))


def _reading(study: Study, method: Method) -> Callable[[], Doubles]:
    """Reads a method's images when it is first asked; several attackers ask."""
    images = list(method.pairs.values())
    return cache(lambda: np.asarray(study.reader.read(images, method.name), np.float64))


def _trained(study: Study, method: Method, read: Callable[[], Doubles]) -> Iterator[Attacker]:
    """Who has learned from photos and portraits of other people."""
    own, knows = list(method.pairs), "photos and portraits of other people, as pairs"
    pairs: dict[str, Pair] = {
        name: (faces.methods[method.name].vectors, faces.gallery.vectors)
        for name, faces in study.faces.items()
        if isinstance(faces, Faces)
    }

    def all_features() -> Pair:
        return everything(list(pairs.values()), (read(), np.asarray(study.reading, np.float64)))

    sources: dict[str, Callable[[], Pair]] = {"everything": all_features}
    if JUDGE in pairs:
        sources = {JUDGE: lambda: pairs[JUDGE]} | sources
    for source, features in sources.items():
        for title, learn in (("Procrustes", procrustes), ("a network", network)):
            attack = _learn(learn, features, own, study)
            yield Attacker(f"trained on pairs, {title}: {source}", knows, "attacker", attack)


def _learn(
    learn: Callable[..., Doubles], features: Callable[[], Pair], own: list[int], study: Study
) -> Callable[[], Doubles]:
    return lambda: learn(*features(), own, study.people)


def _painters(repainted: Repainted | Figures) -> Iterator[Attacker]:
    """Who has the engines and the settings of the run, and paints every suspect."""
    knows, who = READS, "paints all suspects"
    if isinstance(repainted, dict):
        yield Attacker(f"{who}, another seed", knows, "attacker", lambda: repainted)
        return
    for attack in repainted.attacks:
        likeness = _constant(np.asarray(attack.similarities, np.float64))
        if attack.name == SEED_KNOWN:
            told = {"seed": repainted.seed, "painted again exactly": float(attack.exact.mean())}
            yield Attacker(f"{who}, the run's seed", f"{knows}, and the seed", "with the seed", likeness, told)
        else:
            yield Attacker(f"{who}, {attack.name}", knows, "attacker", likeness)


def _constant(likeness: Doubles) -> Callable[[], Doubles]:
    return lambda: likeness
