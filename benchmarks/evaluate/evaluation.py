"""The evaluation: it computes a dictionary of figures from originals, methods and networks.

Where a package or a file of weights is missing, the dictionary holds a message in place of the figures of that row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Literal, get_args

import numpy as np
from tqdm import tqdm

from . import k_anonymity, paper, quality, reidentification, utility
from .attackers.hidden import evaluate_hidden
from .attackers.line_up import evaluate_attackers
from .attackers.risks import evaluate_risks
from .cache import Cache
from .intervals import Interval
from .labels import HELD_OUT
from .learner import evaluate_learner
from .memorisation import evaluate_memorisation
from .pairs import Method
from .predictors import DeepFaceDemography, Fer, HSEmotion, Predictor, Reader
from .study import Faces, Study, attempt
from .types import Figures, Mask, Vector
from .verification import verify

Table = Literal[
    "attackers",
    "verification",
    "memorisation",
    "learner",
    "hidden",
    "risks",
    "reid",
    "utility",
    "quality",
    "attributes",
]
TABLES: tuple[Table, ...] = get_args(Table)
# Of the indices of the originals of n images, their readings (n, k), and a mask of those that are counted.
Score = Callable[[Sequence[int], Vector, Mask], Figures]


def evaluate(study: Study, tables: Sequence[Table]) -> Figures:
    """The figures of some tables; see the functions ``evaluate_...``."""
    parts: Mapping[Table, Callable[[Study], Figures]] = {
        "attackers": evaluate_attackers,
        "verification": evaluate_verification,
        "memorisation": evaluate_memorisation,
        "learner": evaluate_learner,
        "hidden": evaluate_hidden,
        "risks": evaluate_risks,
        "reid": evaluate_reidentification,
        "utility": evaluate_utility,
        "quality": evaluate_quality,
        "attributes": evaluate_k_anonymity,
    }
    found: Figures = {
        "originals": len(study.originals),
        "methods": {
            method.name: {
                "pairs": len(method.pairs),
                "missing": len(method.missing),
                "reasons": method.reasons,
                "extra": method.extra,
                "names": sorted(method.missing),
            }
            for method in study.methods
        },
        "groups": {name: int(mask.sum()) for name, mask in study.groups.items()},
        "labelled": sorted(study.truth.labelled),
        "people": len(np.unique(study.people)),
        "paper": paper.FIGURES,
    }
    return found | {str(table): parts[table](study) for table in tables}


def evaluate_reidentification(study: Study) -> Figures:
    """Table I: re-identification by every encoder."""
    cells, known = study.cells, "guessing, ethnicity, sex and age band known"
    guesses = {"guessing": reidentification.chance(len(cells)), known: reidentification.chance_within(cells)}
    if study.held_out is not None:
        guesses[f"{known} ({HELD_OUT})"] = reidentification.chance_within(cells, study.held_out)
    found: Figures = {"chance": guesses}
    for name, faces in study.faces.items():
        found[name] = _evaluate_encoder(study, faces) if isinstance(faces, Faces) else faces
    return found


def _evaluate_encoder(study: Study, faces: Faces) -> Figures:
    rows: Figures = {}
    for method in study.methods:
        queries = faces.methods[method.name]
        ranking = reidentification.rank(queries.vectors, faces.gallery.vectors, list(method.pairs), faces.metric)
        masks = study.masks(method)
        rows[method.name] = {
            "no face": int(queries.faceless.sum()),
            "all": _as_dicts(reidentification.figures(ranking)),
            "groups": {group: _as_dicts(reidentification.figures(ranking.of(mask))) for group, mask in masks.items()},
            "cmc": {"all": reidentification.cmc(ranking)},
            "same": np.histogram(np.clip(ranking.same, -1, 1), reidentification.BINS)[0].tolist(),
            "different": ranking.different.tolist(),
        }
        if HELD_OUT in masks:
            rows[method.name]["cmc"][HELD_OUT] = reidentification.cmc(ranking.of(masks[HELD_OUT]))
    return {"metric": faces.metric, "no face": int(faces.gallery.faceless.sum()), "methods": rows}


def evaluate_verification(study: Study) -> Figures:
    """Verification by every encoder."""
    found: Figures = {}
    for name, faces in study.faces.items():
        if not isinstance(faces, Faces):
            found[name] = faces
            continue
        gallery, rows = faces.gallery.vectors, dict[str, Figures]()
        for method in tqdm(study.methods, desc=f"verification: {name}", unit="method"):
            made, own, masks = faces.methods[method.name].vectors, list(method.pairs), study.masks(method)
            rows[method.name] = verify(made, gallery, own, study.people, faces.metric, masks)
        found[name] = {"methods": rows}
    return found


def _as_dicts(intervals: Mapping[str, Interval]) -> Figures:
    return {name: asdict(interval) for name, interval in intervals.items()}


def evaluate_utility(study: Study) -> Figures:
    """Table II: attributes, emotion, valence and arousal, ethnicity and gender, by every predictor."""
    reader = attempt(lambda: study.reader)
    if isinstance(reader, dict):
        return dict.fromkeys(("face engines", DeepFaceDemography.name, HSEmotion.name, Fer.name), reader)
    return {
        "inner": utility.INNER,
        "outer": utility.OUTER,
        "face engines": _utility_rows(
            study,
            lambda method: reader.read(list(method.pairs.values()), method.name),
            partial(utility.from_engines, study.truth),
        ),
        DeepFaceDemography.name: _evaluate_predictor(study, reader, DeepFaceDemography, _judge_deepface),
        HSEmotion.name: _evaluate_predictor(study, reader, HSEmotion, _judge_hsemotion),
        Fer.name: _evaluate_predictor(study, reader, Fer, _judge_fer),
    }


def _utility_rows(study: Study, read: Callable[[Method], Vector], score: Score) -> Figures:
    """Figures by method, of all images and by group."""
    methods = [*study.methods]
    if study.labels is not None:  # the figures of the originals show the errors of the predictor itself
        methods.insert(0, Method("originals", dict(enumerate(study.originals))))
    rows: Figures = {}
    for method in methods:
        reading, own = read(method), list(method.pairs)
        rows[method.name] = {
            "no face": int(np.isnan(reading).any(axis=1).sum()),
            "all": score(own, reading, np.ones(len(own), bool)),
            "groups": {group: score(own, reading, mask) for group, mask in study.masks(method).items()},
        }
    return rows


def _evaluate_predictor(
    study: Study, reader: Reader, make: Callable[[], Predictor], judge: Callable[[Study, Vector], Score]
) -> Figures:
    """Rows of a network, from a judge who knows what it reads from the originals."""
    predictor = attempt(make)
    if isinstance(predictor, dict):
        return predictor
    return _utility_rows(
        study,
        lambda method: reader.read_with(predictor, list(method.pairs.values()), method.name),
        judge(study, reader.read_with(predictor, study.originals, "originals")),
    )


def _judge_deepface(study: Study, reading: Vector) -> Score:
    emotions = utility.true_emotions(DeepFaceDemography.emotions, study.labels, reading)
    return partial(utility.from_deepface, study.truth, emotions)


def _judge_hsemotion(study: Study, reading: Vector) -> Score:
    emotions = utility.true_emotions(HSEmotion.emotions, study.labels, reading)
    return partial(utility.from_hsemotion, emotions, utility.true_valence(study.labels, reading))


def _judge_fer(study: Study, reading: Vector) -> Score:
    emotions = utility.true_emotions(Fer.emotions, study.labels, reading)
    return partial(utility.from_fer, study.truth, emotions)


def evaluate_quality(study: Study) -> Figures:
    """Table III: FID and Visual DNA."""
    found: Figures = {}
    for name, make in quality.INCEPTIONS.items():
        network = attempt(make)
        if isinstance(network, dict):
            found[name] = network
            continue
        with Cache(study.cache / f"{name.replace(' ', '-')}.npz", network.version) as cache:
            found[name] = quality.measure_fid(network, cache, study.originals, study.methods, study.groups)
    dna = attempt(quality.VisualDna)
    if not isinstance(dna, dict):
        dna = quality.measure_dna(dna, study.originals, study.methods, study.groups)
    found[quality.VisualDna.name] = dna
    return found


def evaluate_k_anonymity(study: Study) -> Figures:
    """k-anonymity of the prompts for what the face engines read from the originals."""
    reading = attempt(lambda: study.reading)
    if isinstance(reading, dict):
        return reading
    people = k_anonymity.as_attributes(reading)
    rounded = [k_anonymity.in_decades(person) for person in people]
    found: Figures = {"no face": len(reading) - len(people)}
    for name, some in (("age", people), ("decade", rounded)):
        found[name] = {
            "as it is": asdict(k_anonymity.count(some)),
            "ignore": [[attribute, asdict(left)] for attribute, left in k_anonymity.best_to_ignore(some)],
        }
    seen = ~np.isnan(reading).any(axis=1)
    found["groups"] = {
        group: asdict(k_anonymity.count(people, among=mask[seen])) for group, mask in study.groups.items()
    }
    return found
