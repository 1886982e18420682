import shutil
from pathlib import Path

import pytest


@pytest.fixture
def model(demo_model: Path, tmp_path: Path) -> Path:
    """A copy of the demo's model that a test may damage."""
    return Path(shutil.copytree(demo_model, tmp_path / "model"))
