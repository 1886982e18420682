"""diffusers' pipeline behind the runtime's interface; what it generates is tested where images are compared."""

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from anon_runtime import Request, Settings

pytestmark = [
    pytest.mark.usefixtures("export_packages"),
    # diffusers' scheduler gives tensors to numpy 2 in the old way, when it is made here.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


class Pipeline:
    """A pipeline that warns, and returns black images."""

    def __init__(self, warning: str) -> None:
        from anon_export.tables import make_scheduler

        self.warning, self.scheduler = warning, make_scheduler({}, "dpmpp_sde", None)

    def set_progress_bar_config(self, **_: object) -> None:
        """Accept what diffusers' pipelines accept."""

    def __call__(self, prompts: list[str], **_: Any) -> SimpleNamespace:
        warnings.warn(self.warning, UserWarning, stacklevel=1)
        return SimpleNamespace(images=np.zeros((len(prompts), 8, 8, 3), np.float32))


def test_a_remark_of_torchsde_is_hidden_and_no_other_warning() -> None:
    """A build at full size printed it, and users can do nothing about it."""
    from anon_export.build.reference import Diffusers

    remark = "Should have ta>=t0 but got ta=0.0291675366461277 and t0=0.029168."
    assert Diffusers(Pipeline(remark)).generate([Request("a", "b", 1)], Settings()).shape == (1, 8, 8, 3)
    with pytest.warns(UserWarning, match="another one"):
        Diffusers(Pipeline("another one")).generate([Request("a", "b", 1)], Settings())
