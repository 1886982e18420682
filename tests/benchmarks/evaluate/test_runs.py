"""What a journal's header tells about a run."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anon_runtime import Anonymizer, Settings
from anon_runtime.diffusion.acceleration import FAST_LEVELS
from anon_runtime.faces.attributes import CELEBA
from anon_runtime.folder.identity import mark
from anon_runtime.folder.options import RunOptions
from anon_runtime.folder.run import describe_run, make_secret
from anon_runtime.folder.writer import Output
from benchmarks.evaluate.runs import Run


@pytest.mark.parametrize(
    ("seed", "given", "value", "known"),
    [
        (0, None, 0, "public (the default)"),
        (0, 5, 0, "public (the default)"),
        (5, 5, 5, "given"),
        (5, 6, None, "not known"),
        (5, None, None, "not known"),
    ],
)
def test_the_default_and_the_given_seed_are_tried(seed: int, given: int | None, value: int | None, known: str) -> None:
    run = Run({}, mark(make_secret(seed, None)), {}, given)
    assert run.seed == (value, known)


def test_a_seed_beside_given_attributes_is_not_found() -> None:
    assert Run({}, mark(make_secret(0, {"Age": 30})), {}).seed.value is None


@pytest.mark.parametrize("damaged", [{}, {"salt": "00"}, {"salt": "no digits", "scrypt": "00"}, None, "mark"])
def test_without_a_mark_no_seed_is_known(damaged: Any) -> None:
    assert Run({}, damaged, {}, 5).seed == (None, "not known")


@settings(max_examples=30)
@given(
    steps=st.sampled_from([None, 1, 7]),
    scale=st.sampled_from([None, 1, 3.5]),
    sampler=st.sampled_from([None, "dpmpp_2m_sde"]),
    acceleration=st.sampled_from([FAST_LEVELS[0], FAST_LEVELS[1]]),
    style=st.sampled_from(["paper", "natural"]),
    ignore=st.sets(st.sampled_from([name for name in CELEBA if name != "Male"]), max_size=3),
    threshold=st.sampled_from([None, 0.25]),
    guard=st.sampled_from(["off", "report", "strict"]),
    flags=st.tuples(st.booleans(), st.booleans(), st.integers(0, 99)),
)
def test_settings_survive_the_journal(anonymizer: Anonymizer, **chosen: Any) -> None:
    truncate, formats, smallest = chosen.pop("flags")
    names = {"scale": "guidance_scale", "style": "prompt_style", "threshold": "detection_threshold"}
    chosen = {names.get(name, name): value for name, value in chosen.items()}
    chosen |= {"prompt_truncate": truncate, "more_formats": formats, "min_face": smallest}
    chosen["ignore"] = tuple(sorted(chosen["ignore"]))
    manifest = anonymizer.engines.bundle.manifest
    first = anonymizer.using(Settings(**chosen))
    facts = json.loads(json.dumps(describe_run(first, Output(Path()), RunOptions())))
    found, expected = Run(facts, {}, {}).settings().resolve(manifest), Settings(**chosen).resolve(manifest)
    assert found.sampling == expected.sampling
    assert found.guard.mode == expected.guard.mode
    careful = expected.reading.careful_threshold  # portraits do not depend on it
    assert replace(found.reading, careful_threshold=careful) == expected.reading


def test_a_journal_without_settings_has_none() -> None:
    with pytest.raises(KeyError):
        Run({}, {}, {}).settings()
