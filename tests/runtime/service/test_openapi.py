"""The description of the service (OpenAPI) is right: schemathesis sends what it allows, and what it does not."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from anon_runtime import Anonymizer
from anon_runtime.diffusion.generator import Generator
from anon_runtime.folder.review import Review
from anon_runtime.service.options import ServiceOptions
from anon_runtime.types import Portrait

from .conftest import running

pytestmark = pytest.mark.packages
pytest.importorskip("schemathesis")


def test_the_service_does_what_it_says(
    anonymizer: Anonymizer, reviewed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The service paints nothing here, and so is quick."""

    def generate(self: Generator, requests: Sequence[Any], **_: Any) -> list[Portrait]:
        some = [getattr(one, "request", one) for one in requests]
        return [Portrait(Image.new("RGB", (96, 96)), one.prompt, one.negative_prompt, one.seed) for one in some]

    monkeypatch.setattr(Generator, "generate", generate)
    with running(anonymizer, ServiceOptions(), review=Review(reviewed)) as serving:
        program = Path(sys.executable).with_name("schemathesis")
        command = [str(program), "run", f"{serving.url}/openapi.json", "--max-examples", "30", "--seed", "0"]
        # What fits the schema may still be refused: no photo and no prompt, for example.
        command += ["--exclude-checks", "positive_data_acceptance"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
