from pathlib import Path

import pytest

from anon_export.generator import generator_spec
from anon_export.models.model import Model
from anon_export.models.sources import find_model
from anon_runtime.errors import UsageError


@pytest.fixture
def model(demo_model: Path, tmp_path: Path) -> Model:
    return find_model(str(demo_model), tmp_path)


def test_sizes_are_the_models_own_or_the_users(model: Model) -> None:
    own, wide = generator_spec(model, None, None), generator_spec(model, None, 128)
    assert (own.height, own.width, own.latent_shape) == (96, 96, (4, 24, 24))
    assert (wide.height, wide.width, wide.latent_shape) == (96, 128, (4, 24, 32))


@pytest.mark.parametrize(("height", "width", "setting"), [(0, None, "height"), (None, 65, "width"), (8, 96, "height")])
def test_sizes_that_the_model_cannot_halve_are_refused(
    model: Model, height: int | None, width: int | None, setting: str
) -> None:
    with pytest.raises(UsageError, match=rf"`{setting}` .*multiple of 16"):
        generator_spec(model, height, width)
