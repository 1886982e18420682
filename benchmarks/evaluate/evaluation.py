"""The evaluation: originals, methods and networks in, one dictionary of figures out.

Whatever a row lacks, a package or a file of weights, is written where its figures would be; the others are computed.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from anon_runtime import Anonymizer
from anon_runtime.errors import AnonError

from ..metrics import FEWEST
from . import k_anonymity, quality, reidentification, utility
from .cache import Cache, Vector
from .encoders import ENCODERS, Embedder
from .labels import HELD_OUT, Labels, Mask, age_bands, make_groups
from .pairs import ImageFile, Method
from .predictors import DeepFaceDemography, FaceEngines, HSEmotion, Predictor, Reader
from .requirements import MissingError

TABLES = ("reid", "utility", "quality", "attributes")
Figures = dict[str, Any]
T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Study:
    """What is evaluated.

    Attributes:
        originals: all of them; the gallery.
        methods: the anonymizers' images.
        labels: of the originals, if there are any.
        held_out: originals that the networks were not trained on, if that is known.
        engines: the bundle whose face engines read images.
        cache: folder of what networks said.
    """

    originals: Sequence[ImageFile]
    methods: Sequence[Method]
    labels: Labels | None
    held_out: Mask | None
    engines: Path
    cache: Path

    @cached_property
    def reader(self) -> Reader:
        """The bundle's face engines.

        Raises:
            MissingError: there is no such bundle, or it has none.
        """
        try:
            anonymizer = Anonymizer.load(self.engines)
            anonymizer.engine("face_attributes")
        except AnonError as error:
            raise MissingError("face engines", f"missing: {error}", "name a bundle with --engines") from None
        return Reader(FaceEngines(anonymizer), Cache(self.cache / "readings.npz"))

    @cached_property
    def reading(self) -> Vector:
        """What the face engines read from the originals."""
        return self.reader.engines(self.originals, "originals")

    @cached_property
    def truth(self) -> utility.Truth:
        """Labels, and where there are none what was read from the originals; nothing without both."""
        try:
            reading = self.reading
        except MissingError:
            reading = np.full((len(self.originals), len(FaceEngines.columns)), np.nan)
        return utility.find_truth(self.labels, reading)

    @cached_property
    def groups(self) -> dict[str, Mask]:
        """Masks over the originals."""
        groups = make_groups(self.truth.ethnicity, self.truth.sex, self.truth.age)
        if self.held_out is not None:
            groups = {HELD_OUT: self.held_out, "not held out": ~self.held_out} | groups
        return groups


def evaluate(study: Study, tables: Sequence[str]) -> Figures:
    """All figures of some tables; see the module's ``evaluate_...`` for each."""
    parts: Mapping[str, Callable[[Study], Figures]] = {
        "reid": evaluate_identity, "utility": evaluate_utility, "quality": evaluate_quality,
        "attributes": evaluate_anonymity,
    }  # fmt: skip
    found: Figures = {
        "originals": len(study.originals),
        "methods": {
            m.name: {"pairs": len(m.pairs), "missing": len(m.missing), "reasons": m.reasons, "extra": m.extra,
                     "names": sorted(m.missing)}
            for m in study.methods
        },
        "groups": {name: int(mask.sum()) for name, mask in study.groups.items()},
        "labelled": sorted(study.truth.labelled),
    }  # fmt: skip
    return found | {table: parts[table](study) for table in tables}


def attempt(make: Callable[[], T]) -> T | Figures:
    """What a row is made of, or what it lacks, which is told at once."""
    try:
        return make()
    except MissingError as error:
        log.warning("%s", error)
        return {"missing": str(error)}


def _masks(study: Study, method: Method) -> dict[str, Mask]:
    """Which of a method's images are in each group that has enough of them."""
    own = np.array(list(method.pairs))
    masks = {name: mask[own] for name, mask in study.groups.items()}
    return {name: mask for name, mask in masks.items() if mask.sum() >= FEWEST}


def evaluate_identity(study: Study) -> Figures:
    """Table I: re-identification by every encoder."""
    truth, known = study.truth, "guessing, ethnicity, sex and age band known"
    cells = list(zip(truth.ethnicity, truth.sex, age_bands(truth.age), strict=True))
    guesses = {"guessing": reidentification.chance(len(cells)), known: reidentification.chance_within(cells)}
    if study.held_out is not None:
        guesses[f"{known} ({HELD_OUT})"] = reidentification.chance_within(cells, study.held_out)
    found: Figures = {"chance": guesses}
    for name, make in ENCODERS.items():
        encoder = attempt(make)
        if isinstance(encoder, dict):
            found[name] = encoder
            continue
        with Cache(study.cache / f"{name.replace(' ', '-').replace('/', '')}.npz", encoder.version) as cache:
            embedder = Embedder(encoder, cache)
            gallery = embedder.originals(study.originals)
            rows = {}
            for method in study.methods:
                queries = embedder.method(study.originals, method)
                ranking = reidentification.rank(queries.vectors, gallery.vectors, list(method.pairs), encoder.metric)
                rows[method.name] = {
                    "no face": int(queries.faceless.sum()),
                    "all": _plain(reidentification.figures(ranking)),
                    "groups": {
                        group: _plain(reidentification.figures(ranking.of(mask)))
                        for group, mask in _masks(study, method).items()
                    },
                    "cmc": {
                        name: reidentification.cmc(ranking.of(mask))
                        for name, mask in {"all": np.ones(len(ranking.same), bool), **_masks(study, method)}.items()
                        if name in ("all", HELD_OUT)
                    },
                    "same": np.histogram(np.clip(ranking.same, -1, 1), reidentification.BINS)[0].tolist(),
                    "different": ranking.different.tolist(),
                }
        found[name] = {"metric": encoder.metric, "no face": int(gallery.faceless.sum()), "methods": rows}
    return found


def _plain(intervals: Mapping[str, reidentification.Interval]) -> Figures:
    return {name: asdict(interval) for name, interval in intervals.items()}


def evaluate_utility(study: Study) -> Figures:
    """Table II: attributes, emotion, valence and arousal, ethnicity and gender, by every predictor."""
    reader = attempt(lambda: study.reader)
    if isinstance(reader, dict):
        return dict.fromkeys(("face engines", DeepFaceDemography.name, HSEmotion.name), reader)
    methods = [*study.methods]
    if study.labels is not None:  # what the predictors themselves get wrong
        methods.insert(0, Method("originals", dict(enumerate(study.originals))))
    found: Figures = {"inner": utility.INNER, "outer": utility.OUTER}

    def rows(read: Callable[[Method], Vector], score: Callable[[Sequence[int], Vector, Mask], Figures]) -> Figures:
        made = {}
        for method in methods:
            reading, own = read(method), list(method.pairs)
            made[method.name] = {
                "no face": int(np.isnan(reading).any(axis=1).sum()),
                "all": score(own, reading, np.ones(len(own), bool)),
                "groups": {group: score(own, reading, mask) for group, mask in _masks(study, method).items()},
            }
        return made

    found["face engines"] = rows(
        lambda method: reader.engines(list(method.pairs.values()), method.name),
        lambda own, reading, mask: utility.from_engines(study.truth, own, reading, mask),
    )

    def others(predictor: Predictor) -> tuple[Vector, Callable[[Method], Vector]]:
        return (
            reader.others(predictor, study.originals, "originals"),
            lambda method: reader.others(predictor, list(method.pairs.values()), method.name),
        )

    deepface = attempt(DeepFaceDemography)
    if isinstance(deepface, dict):
        found[DeepFaceDemography.name] = deepface
    else:
        reading, read = others(deepface)
        emotions = utility.true_emotions(deepface.emotions, study.labels, reading)
        found[deepface.name] = rows(
            read, lambda own, made, mask: utility.from_deepface(study.truth, emotions, own, made, mask)
        )
    hsemotion = attempt(HSEmotion)
    if isinstance(hsemotion, dict):
        found[HSEmotion.name] = hsemotion
    else:
        reading, read = others(hsemotion)
        felt = utility.true_emotions(hsemotion.emotions, study.labels, reading)
        valence = utility.true_valence(study.labels, reading)
        found[hsemotion.name] = rows(
            read, lambda own, made, mask: utility.from_hsemotion(felt, valence, own, made, mask)
        )
    return found


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
    found[quality.VisualDna.name] = (
        dna if isinstance(dna, dict) else quality.measure_dna(dna, study.originals, study.methods, study.groups)
    )
    return found


def evaluate_anonymity(study: Study) -> Figures:
    """Attribute k-anonymity of what the face engines read from the originals."""
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
