import numpy as np

from anon_export.demo.training.captions import Mixture, caption, labelled
from anon_export.demo.training.data import Photos
from anon_runtime.faces.prompt import write_prompts


def test_captions_are_algorithm_1_with_phrases_left_out(photos: Photos) -> None:
    rng, person = np.random.default_rng(0), labelled(photos, 1)
    phrases = {p.strip() for style in ("paper", "natural") for p in write_prompts(person, style)[0].split(",")}
    for _ in range(30):
        written = caption(photos, 1, Mixture(negative=0, empty=0), rng)
        assert written.startswith("closeup portrait photo of a asian ")
        assert "man, " in written
        assert {p.strip() for p in written.split(",")[1:]} <= phrases


def test_negative_and_empty_captions(photos: Photos) -> None:
    rng = np.random.default_rng(0)
    kinds = [caption(photos, 0, Mixture(negative=0.5, empty=0.2, strangers=0), rng) for _ in range(300)]
    assert 30 < kinds.count("") < 90
    assert 100 < sum(text.startswith(" ") for text in kinds) < 200
    assert labelled(photos, 1)["Attractive"] == 0
