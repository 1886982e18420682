"""Attacks on a table of what was read from portraits, by Anonymeter.

Giomi et al., A Unified Framework for Quantifying Privacy Risk in Synthetic Data, 2023. Its evaluators draw random
numbers without a seed, give no result for each person, and guess a secret by the number of a row, which is no guess
where portraits are in the order of people. Here the same attacks are made of the evaluators' parts.
"""

import logging
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from anonymeter.evaluators.inference_evaluator import evaluate_inference_guesses
from anonymeter.evaluators.linkability_evaluator import LinkabilityIndexes
from anonymeter.evaluators.singling_out_evaluator import (
    _random_queries as random_queries,  # there is no public way to its baseline
)
from anonymeter.evaluators.singling_out_evaluator import multivariate_singling_out_queries
from anonymeter.neighbors.mixed_types_kneighbors import KNNInferencePredictor, MixedTypeKNeighbors
from scipy.stats import hypergeom

from anon_runtime.faces.attributes import ETHNICITIES

from ..types import Mask, Vector
from .tables import AGE, ETHNICITY, Table, as_facts

# Anonymeter finds the columns of a predicate by drawing. After so many draws for each one, it gives up.
DRAWS = 50
# It warns when it gives up. The figures say for how many people there are predicates.
logging.getLogger("anonymeter").setLevel(logging.ERROR)


def link(portraits: Table, people: Table, sides: Sequence[Sequence[str]], neighbors: Sequence[int]) -> Mask:
    """Whether two halves of what is known of a person lead to the same portrait.

    Args:
        portraits: m rows; those of the columns of both sides are compared, by Gower's distance.
        people: n rows.
        sides: the columns of the first and of the second half.
        neighbors: numbers of portraits that each half leads to: the most similar ones. One in common is a link.

    Returns:
        (n, number of neighbors).
    """
    nearest = [
        MixedTypeKNeighbors(n_neighbors=max(neighbors), n_jobs=1)
        .fit(pd.DataFrame({name: portraits[name] for name in side}))
        .kneighbors(pd.DataFrame({name: people[name] for name in side}))
        for side in sides
    ]
    linked = np.zeros((len(nearest[0]), len(neighbors)), bool)
    for column, count in enumerate(neighbors):
        linked[list(LinkabilityIndexes(*nearest).find_links(count)), column] = True
    return linked


def link_by_chance(portraits: int, neighbors: Sequence[int]) -> Vector:
    """Probability that two random choices of so many of the portraits have one in common: Anonymeter's baseline."""
    return np.array([hypergeom(portraits, count, count).sf(0) for count in neighbors])


def infer(portraits: Table, people: Table, secret: str) -> Mask:
    """Whether the secret of the most similar portrait is that of the person (n,); all other columns are known.

    An age is right if it is within 5 % of the guess.
    """
    known = [name for name in portraits if name != secret]
    data = pd.DataFrame({**portraits, secret: as_facts(portraits)[secret]})
    guesses = KNNInferencePredictor(data=data, columns=known, target_col=secret, n_jobs=1).predict(
        pd.DataFrame({name: people[name] for name in known})
    )
    return _is_right(guesses, pd.Series(as_facts(people)[secret]), secret)


def infer_by_chance(portraits: Table, people: Table, secret: str) -> Vector:
    """Probability that the secret of a random portrait is that of the person (n,): Anonymeter's baseline."""
    guesses, truth = as_facts(portraits)[secret], as_facts(people)[secret]
    pairs = pd.Series(np.tile(guesses, len(truth))), pd.Series(np.repeat(truth, len(guesses)))
    found: Vector = _is_right(*pairs, secret).reshape(len(truth), len(guesses)).mean(axis=1)
    return found


def _is_right(guesses: Any, truth: Any, secret: str) -> Mask:
    right: Mask = evaluate_inference_guesses(guesses, truth, regression=secret == AGE)
    return right


def find_predicates(portraits: Table, columns: int, rng: np.random.Generator) -> list[Any]:
    """Predicates on some columns that hold for exactly one portrait, at most as many as there are portraits.

    Each is made from a portrait: the same attributes, the same ethnicity, and at least its age if that is above the
    median, or else at most its age.
    """
    count = len(portraits[AGE])
    draws = DRAWS * count
    found: list[Any] = multivariate_singling_out_queries(_frame(portraits), count, columns, draws, rng, count)
    return found


def guess_predicates(portraits: Table, columns: int, rng: np.random.Generator) -> list[Any]:
    """As many random predicates as there are portraits, from the values of the columns: Anonymeter's baseline."""
    found: list[Any] = random_queries(_frame(portraits), len(portraits[AGE]), columns, rng)
    return found


def hold(predicates: Collection[Any], people: Table) -> Mask:
    """Which predicates hold for whom: (n people, m predicates)."""
    found: Mask = np.asarray(
        _frame(people).select(predicate.alias(str(number)) for number, predicate in enumerate(predicates)), bool
    ).reshape(len(people[AGE]), len(predicates))
    return found


def _frame(table: Table) -> pl.DataFrame:
    """Facts of a table. Ethnicities are numbered, since the order of text differs from process to process."""
    return pl.DataFrame(as_facts(table), schema_overrides={ETHNICITY: pl.Enum(ETHNICITIES)})
