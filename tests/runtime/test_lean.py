"""The runtime must never load a training framework."""

import subprocess
import sys
from pathlib import Path

HEAVY = ("torch", "tensorflow", "diffusers", "transformers", "cv2", "scipy", "skimage", "onnx")

PROGRAM = """
import sys
class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {heavy!r}:
            raise ImportError(name + " was asked for")
sys.meta_path.insert(0, Forbidden())
from anon_runtime import Anonymizer, Settings
portrait = Anonymizer.load({bundle!r}, Settings(steps=2)).anonymize({photo!r})
assert portrait.image.size == (96, 96)
print(sorted(name for name in sys.modules if name.split(".")[0] in {heavy!r}))
"""


def test_a_fresh_interpreter_loads_no_framework(demo_bundle: Path, astronaut: Path) -> None:
    program = PROGRAM.format(heavy=HEAVY, bundle=str(demo_bundle), photo=str(astronaut))
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_the_check_would_notice() -> None:
    program = PROGRAM.format(heavy=("json",), bundle="x", photo="y")
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode != 0
    assert "json was asked for" in result.stderr
