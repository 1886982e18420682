from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anon_runtime import Anonymizer, Settings
from anon_runtime.errors import BackendError, BundleError, NoFaceError, UsageError
from anon_runtime.types import Request
from tests.conftest import pixels
from tests.runtime.stand_ins import StandInEngines


def test_a_file_an_image_and_an_array_give_the_same(anonymizer: Anonymizer, astronaut: Path) -> None:
    quick = anonymizer.using(Settings(steps=2))
    with Image.open(astronaut) as image:
        portraits = [quick.anonymize(photo, seed=7) for photo in (astronaut, image, pixels(astronaut))]
    first = portraits[0]
    assert first.seed == 7
    assert first.image.size == (96, 96)
    assert first.face
    assert first.attributes
    for other in portraits[1:]:
        assert (other.prompt, other.negative_prompt, other.face) == (first.prompt, first.negative_prompt, first.face)
        np.testing.assert_array_equal(np.asarray(other.image), np.asarray(first.image))


def test_no_face(anonymizer: Anonymizer, coffee: Path) -> None:
    with pytest.raises(NoFaceError, match=r"coffee.png: no face"):
        anonymizer.anonymize(coffee)


def test_steps_outside_the_tables(anonymizer: Anonymizer, demo_bundle: Path) -> None:
    with pytest.raises(UsageError, match="use 1 to 50"):
        anonymizer.using(Settings(steps=51))
    with pytest.raises(UsageError, match="use 1 to 50"):
        Anonymizer.load(demo_bundle, Settings(steps=51), checksum=False)


def test_a_photo_is_not_read_where_no_portrait_can_be_generated(anonymizer: Anonymizer) -> None:
    class Nothing(StandInEngines):
        def require(self, *roles: str) -> None:
            if "unet" in roles:
                raise BundleError("bundle", "it has no unet engine", "build it again")

    lacking = Anonymizer.of(Nothing(anonymizer.engines.bundle))
    with pytest.raises(BundleError, match="no unet engine"):
        lacking.anonymize("there is no such file")


def test_other_settings_share_the_engines(demo_bundle: Path) -> None:
    with Anonymizer.load(demo_bundle, checksum=False) as anonymizer:
        unet = anonymizer.engines["unet"]
        other = anonymizer.using(Settings(steps=1, guidance_scale=1.0))
        assert other.engines["unet"] is unet
        assert other.generator.tokenizer is anonymizer.generator.tokenizer, "its file is read once"
        assert other.generator.schedule.steps == 1 != anonymizer.generator.schedule.steps
    with pytest.raises(BackendError, match="the engines were closed"):
        other.generate([Request("a")])
