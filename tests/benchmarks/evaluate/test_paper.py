"""The paper's figures are complete, and some of them are as the paper prints them (Tables I to III)."""

import json

from benchmarks.evaluate import paper
from benchmarks.evaluate.encoders import ENCODERS

METHODS = {"DeepPrivacy2", "FALCO", "ours"}


def test_every_method_has_every_figure() -> None:
    assert {*paper.REIDENTIFICATION} < {*ENCODERS}, "rows stand below ours of the same encoder"
    for rows in (*paper.REIDENTIFICATION.values(), paper.UTILITY, paper.QUALITY):
        assert {*rows} == METHODS
    assert json.loads(json.dumps(paper.FIGURES))["source"].endswith("Tables I to III")


def test_rates_rise_with_the_rank() -> None:
    for rows in paper.REIDENTIFICATION.values():
        for row in rows.values():
            assert 0 < row["Re-ID@1"] < row["Re-ID@5"] < row["Re-ID@10"] < 1


def test_figures_as_printed() -> None:
    assert paper.REIDENTIFICATION["CLIP ViT-B/32"]["ours"] == {
        "Re-ID@1": 0.007,
        "Re-ID@5": 0.021,
        "Re-ID@10": 0.037,
        "mAP@50": 0.006,
    }
    assert paper.UTILITY["FALCO"]["VA MSE"] == 0.08
    assert paper.QUALITY["DeepPrivacy2"]["FID"] == 49.4
