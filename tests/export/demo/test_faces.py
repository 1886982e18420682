from importlib.metadata import PackageNotFoundError

import pytest

from anon_export.demo import faces
from anon_runtime.errors import AnonError


def test_a_missing_detector_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(faces, "distribution", absent)
    with pytest.raises(AnonError, match=r"anon-engines\[demo\]"):
        faces.find_centerface()
