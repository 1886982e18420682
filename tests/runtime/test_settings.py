import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anon_runtime import Anonymizer, Settings
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.manifest import Manifest
from anon_runtime.diffusion.acceleration import FAST_LEVELS, Acceleration
from anon_runtime.errors import BundleError, UsageError
from anon_runtime.faces.detection import DETECTORS, SECOND_DETECTOR_ROLE
from anon_runtime.faces.identity import IDENTITY_ROLE
from anon_runtime.guard.options import GuardOptions, Mode
from anon_runtime.settings import find_detector, find_second_detector
from anon_runtime.types import Attributes


@pytest.mark.parametrize(
    "bad",
    [
        {"steps": 0},
        {"steps": 1.5},
        {"steps": True},
        {"steps": "2"},
        {"guidance_scale": 0.0},
        {"guidance_scale": -1.0},
        {"guidance_scale": math.nan},
        {"guidance_scale": math.inf},
        {"guidance_scale": 0.99},
        {"guidance_scale": "7"},
        {"sampler": "euler"},
        {"prompt_style": "poem"},
        {"ignore": ("Male",)},
        {"min_face": math.nan},
        {"min_face": None},
        {"min_face": -1},
        {"detection_threshold": 0.0},
        {"detection_threshold": 1.0},
        {"detection_threshold": math.nan},
        {"guard": "lax"},
        {"fmr": 0.0},
        {"fmr": math.nan},
        {"attempts": 0},
        {"min_rank": -1},
        {"best_of": 7},
        {"guard": "off", "attempts": 1, "best_of": 2},
    ],
)
def test_values_without_meaning_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Settings(**bad)


def test_the_ends_of_the_ranges_are_fine() -> None:
    assert Settings(steps=1, guidance_scale=1.0, sampler="dpmpp_2m_sde").steps == 1


def test_settings_are_their_own() -> None:
    """They keep the names from an iterator, which can be read only once, and do not change with the user's dict."""
    names: Any = iter(["Young", "Bangs"])
    assert Settings(ignore=names).ignore == ("Young", "Bangs")
    person: Attributes = {"Ethnic": "white", "Age": 34, "Male": 1}
    settings = Settings(attributes=person)
    person["Age"] = 80
    assert settings.attributes is not None
    assert settings.attributes["Age"] == 34


def test_numbers_of_numpy_are_numbers() -> None:
    numbers: dict[str, Any] = {"steps": np.uint8(3), "guidance_scale": np.float32(7.5)}
    settings = Settings(**numbers)
    assert (type(settings.steps), type(settings.guidance_scale)) == (int, float)


def test_what_is_left_open_is_the_bundles(demo_bundle: Path) -> None:
    manifest = Bundle.read(demo_bundle).manifest
    resolved = Settings().resolve(manifest)
    defaults = manifest.defaults
    assert resolved.sampling.sampler == defaults.sampler
    assert (resolved.sampling.steps, resolved.sampling.guidance_scale) == (defaults.steps, defaults.guidance_scale)
    assert resolved.reading.detection_threshold == DETECTORS["centerface"].threshold
    chosen = Settings(steps=3, guidance_scale=1, detection_threshold=0.25).resolve(manifest)
    assert (chosen.sampling.steps, chosen.sampling.guidance_scale, chosen.sampling.guided) == (3, 1, False)
    assert chosen.reading.detection_threshold == 0.25


def test_a_sampler_is_the_users_or_the_accelerations_or_the_bundles(demo_bundle: Path) -> None:
    manifest = Bundle.read(demo_bundle).manifest
    fast = Settings(acceleration=Acceleration(sampler="dpmpp_2m_sde"))
    assert manifest.defaults.sampler == "dpmpp_sde"
    assert fast.resolve(manifest).sampling.sampler == "dpmpp_2m_sde"
    assert replace(fast, sampler="dpmpp_sde").resolve(manifest).sampling.sampler == "dpmpp_sde"
    assert FAST_LEVELS[0] == Acceleration()


def test_a_face_detector_that_is_not_known_is_told(demo_bundle: Path) -> None:
    manifest = Bundle.read(demo_bundle).manifest
    newer = replace(manifest.engines["face_detector"], signature="facefinder-9000")
    with pytest.raises(BundleError, match=r"not know its face detector, 'facefinder-9000'.*centerface, retinaface"):
        Settings().resolve(replace(manifest, engines=manifest.engines | {"face_detector": newer}))
    without = {role: spec for role, spec in manifest.engines.items() if not role.startswith("face")}
    assert Settings().resolve(replace(manifest, engines=without)).sampling.steps == manifest.defaults.steps


def test_the_second_face_detector(demo_bundle: Path) -> None:
    manifest = Bundle.read(demo_bundle).manifest
    first = manifest.engines["face_detector"]
    assert first.signature == "centerface"
    alone = replace(manifest, engines={role: spec for role, spec in manifest.engines.items() if "second" not in role})

    def add(signature: str) -> Manifest:
        second = replace(first, signature=signature)
        return replace(manifest, engines=manifest.engines | {SECOND_DETECTOR_ROLE: second})

    assert find_second_detector(alone) is None
    both = add("retinaface")
    assert (find_detector(both), find_second_detector(both)) == (DETECTORS["centerface"], DETECTORS["retinaface"])
    with pytest.raises(BundleError, match=r"not know its face detector, 'facefinder-9000'.*centerface, retinaface"):
        find_second_detector(add("facefinder-9000"))
    with pytest.raises(BundleError, match="both of its face detectors are centerface"):
        find_second_detector(add("centerface"))


def without_recognition(manifest: Manifest) -> list[Manifest]:
    """Manifests of bundles that lack the face-recognition network or its description."""
    engines = {role: spec for role, spec in manifest.engines.items() if role != IDENTITY_ROLE}
    assert len(engines) == len(manifest.engines) - 1
    return [replace(manifest, engines=engines), replace(manifest, identity=None)]


def test_the_guard_is_strict_where_the_bundle_recognizes_faces(demo_bundle: Path) -> None:
    manifest = Bundle.read(demo_bundle).manifest
    assert Settings().resolve(manifest).guard == GuardOptions("strict")
    for bundle in without_recognition(manifest):
        assert Settings().resolve(bundle).guard == GuardOptions("off")
        assert Settings(guard="off").resolve(bundle).guard.mode == "off"


@pytest.mark.parametrize("mode", ["strict", "report"])
def test_a_check_that_the_bundle_cannot_make_is_refused(demo_bundle: Path, mode: Mode) -> None:
    manifest = Bundle.read(demo_bundle).manifest
    assert Settings(guard=mode).resolve(manifest).guard.mode == mode
    for bundle in without_recognition(manifest):
        with pytest.raises(UsageError, match=f"`guard` {mode}: bundle demo has no face-recognition network"):
            Settings(guard=mode).resolve(bundle)


def test_the_options_of_the_guard_are_the_users(demo_bundle: Path) -> None:
    settings = Settings(guard="report", fmr=1e-3, attempts=4, min_rank=7, best_of=3)
    assert settings.resolve(Bundle.read(demo_bundle).manifest).guard == GuardOptions("report", 1e-3, 4, 7, 3)


def test_no_face_may_be_missed_where_all_are_replaced(anonymizer: Anonymizer) -> None:
    """Then less certain faces count, unless the user has chosen a threshold."""
    manifest = anonymizer.engines.bundle.manifest
    reading = Settings().resolve(manifest).reading
    assert reading.careful_threshold < reading.detection_threshold
    chosen = Settings(detection_threshold=0.7).resolve(manifest).reading
    assert (chosen.careful_threshold, chosen.detection_threshold) == (0.7, 0.7)
