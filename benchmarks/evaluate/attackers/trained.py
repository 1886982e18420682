"""Attackers who learned from pairs of other people how an anonymizer changes faces.

For some people they know which original belongs to which portrait, and learn a projection that brings portraits close
to their originals. Cross-fitting applies it to others: each similarity, of a portrait and an original, comes from a
projection that saw neither of their people, nor near copies of them.

It is not enough to leave out the portrait's person. A projection pulls portraits towards the originals of its training,
and away from those that were wrong answers there. One that it has not seen is treated otherwise, and the right one
always is: noise was found 1.25 times as often as by chance (300 people, 16 columns, among ten), and real portraits more
seldom than with this rule.
"""

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import torch
from scipy.linalg import orthogonal_procrustes
from torch.nn import functional

from ..people import Numbers, folds
from ..reidentification import Doubles, similarity
from ..requirements import MissingError
from ..types import Vector
from .words import as_words, without_box

SETS = 6  # of people; two of them are left out of each projection, so that it learns from two thirds
IDENTITY = 0.5  # weight of the identity in a rotation; that of the pairs is 1
STEPS = 50  # of the network's training: few, so that it does not learn some hundred pairs by heart
RATE = 0.01  # of the network's training, divided by the root of the width, so that wide embeddings change no faster
TEMPERATURE = 0.1  # of the softmax over cosines
Pair = tuple[Vector, Vector]  # of portraits (n, d) and of originals (m, d)
Attack = Callable[[Doubles, Doubles], Doubles]  # portraits (n, d), originals (m, d) -> similarities (n, m)
Learn = Callable[[Doubles, Doubles], Attack]  # portraits (t, d) and their originals (t, d)


def procrustes(portraits: Vector, originals: Vector, own: Sequence[int], people: Numbers, seed: int = 0) -> Doubles:
    """An attacker who turns the embeddings of portraits; see `learn_rotation` and `cross_fit`."""
    return cross_fit(learn_rotation, portraits, originals, own, people, seed)


def network(portraits: Vector, originals: Vector, own: Sequence[int], people: Numbers, seed: int = 0) -> Doubles:
    """An attacker who trains a linear layer on the embeddings of portraits; see `learn_layer` and `cross_fit`."""
    return cross_fit(learn_layer, portraits, originals, own, people, seed)


def everything(embeddings: Sequence[Pair], readings: Pair) -> Pair:
    """Features for `procrustes` and `network`: what all encoders and the face engines say, side by side.

    Every column is standardised over the portraits, and over the originals, without looking at pairs. Every source has
    the same weight, however many columns it has. The readings of the portraits stand beside those of the originals and
    beside the originals' words.

    Args:
        embeddings: by each encoder.
        readings: (n, k) and (m, k) of `FaceEngines`; NaN, where no face was found, becomes the mean.
    """
    read, known = readings
    parts = [*embeddings, (without_box(read), without_box(known)), (without_box(read), as_words(known))]
    return np.hstack([_standardize(a) for a, _ in parts]), np.hstack([_standardize(b) for _, b in parts])


def _standardize(features: Vector) -> Doubles:
    known = np.asarray(features, np.float64)
    if np.isnan(known).all():
        return np.zeros_like(known)
    centred = known - np.nanmean(known, axis=0)
    spread = np.nanstd(known, axis=0)
    scaled = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 1e-9)
    weighted: Doubles = np.nan_to_num(scaled) / np.sqrt(known.shape[1])
    return weighted


def cross_fit(
    learn: Learn, portraits: Vector, originals: Vector, own: Sequence[int], people: Numbers, seed: int = 0
) -> Doubles:
    """Similarities (n, m) by projections that were learned from other people.

    Args:
        learn: returns an attack that was learned from pairs.
        portraits: embeddings (n, d).
        originals: embeddings (m, d).
        own: row of each portrait's original.
        people: (m,), see `people.find_people`.
        seed: of the sets of people.

    Raises:
        MissingError: there are too few people to learn from.
    """
    rows, read, known = np.asarray(own, np.int64), np.asarray(portraits, np.float64), np.asarray(originals, np.float64)
    if (count := len(np.unique(people[rows]))) < 2 * SETS:
        why = f"there are portraits of {count} people, and it takes {2 * SETS} to learn from some and test the others"
        raise MissingError("trained attackers", why, "evaluate more images")
    found = np.empty((len(read), len(known)))
    sets = list(folds(people, SETS, seed))
    for (first, second), blocks in _plan().items():
        seen = ~(sets[first] | sets[second])[rows]
        attack = learn(read[seen], known[rows[seen]])
        for asked, shown in blocks:
            queries, gallery = sets[asked][rows], sets[shown]
            found[np.ix_(queries, gallery)] = attack(read[queries], known[gallery])
    return found


def _plan() -> dict[tuple[int, int], list[tuple[int, int]]]:
    """What each projection compares, by the two sets that it has not seen: sets of portraits and of originals.

    Portraits and originals of one set are compared by the projection that has not seen the next one either, so that all
    projections have learned from as many people.
    """
    plan = {pair: [pair, pair[::-1]] for pair in combinations(range(SETS), 2)}
    for one in range(SETS):
        first, second = sorted((one, (one + 1) % SETS))
        plan[first, second].append((one, one))
    return plan


def learn_rotation(portraits: Doubles, originals: Doubles) -> Attack:
    """The rotation that brings centred portraits closest to their originals (Schoenemann, 1966; scipy).

    Few pairs determine it badly, and the identity is added as d more pairs with the weight `IDENTITY`. A scale would
    change no rank, because similarity is the cosine.

    Args:
        portraits, originals: embeddings (t, d) of t pairs.
    """
    a, b = _centred(portraits, portraits), _centred(originals, originals)
    prior = np.sqrt(IDENTITY * len(a) / a.shape[1]) * np.eye(a.shape[1])
    rotation = orthogonal_procrustes(np.vstack([a, prior]), np.vstack([b, prior]))[0]
    return lambda read, known: similarity(_centred(read, portraits) @ rotation, _centred(known, originals), "cosine")


def learn_layer(portraits: Doubles, originals: Doubles) -> Attack:
    """A linear layer whose output is added to the embedding of a portrait, which makes it a residual network.

    Its loss is contrastive: the own original among those of all training people (InfoNCE, van den Oord et al., 2018).
    It starts at 0 and is trained with AdamW on all pairs in each step. Nothing about it is random.

    Args:
        portraits, originals: embeddings (t, d) of t pairs.
    """
    faces, gallery = (
        torch.from_numpy(_centred(vectors, vectors).astype(np.float32)) for vectors in (portraits, originals)
    )
    width, own = faces.shape[1], torch.arange(len(faces))
    layer = torch.zeros(width, width, requires_grad=True)
    optimizer = torch.optim.AdamW([layer], lr=RATE / width**0.5)
    for _ in range(STEPS):
        cosines = functional.normalize(faces + faces @ layer) @ gallery.T
        optimizer.zero_grad()
        functional.cross_entropy(cosines / TEMPERATURE, own).backward()
        optimizer.step()
    learned = layer.detach().double().numpy()

    def attack(read: Doubles, known: Doubles) -> Doubles:
        asked = _centred(read, portraits)
        return similarity(asked + asked @ learned, _centred(known, originals), "cosine")

    return attack


def _centred(vectors: Doubles, trained: Doubles) -> Doubles:
    """Differences from the mean of the training images, at length 1."""
    different = vectors - trained.mean(axis=0)
    centred: Doubles = different / np.linalg.norm(different, axis=1, keepdims=True).clip(1e-12)
    return centred
