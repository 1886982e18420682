import numpy as np
import pytest

from anon_runtime.errors import UsageError
from anon_runtime.types import Request


@pytest.mark.parametrize("bad", [{"seed": -1}, {"seed": 2**70}, {"seed": True}, {"prompt": "\udcff"}, {"prompt": b"a"}])
def test_requests_without_meaning_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Request(**{"prompt": "a"} | bad)  # type: ignore[arg-type]


def test_a_seed_of_numpy_is_a_number() -> None:
    assert type(Request("a", seed=np.uint64(2**63)).seed) is int  # type: ignore[arg-type]
