from typing import Any

import numpy as np
import pytest

from anon_runtime.errors import UsageError
from anon_runtime.types import Request


@pytest.mark.parametrize("bad", [{"seed": -1}, {"seed": 2**70}, {"seed": True}, {"prompt": "\udcff"}, {"prompt": b"a"}])
def test_requests_without_meaning_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Request(**{"prompt": "a"} | bad)


def test_a_seed_of_numpy_is_a_number() -> None:
    seed: Any = np.uint64(2**63)
    assert type(Request("a", seed=seed).seed) is int
