"""The command `anon-export` in a process of its own, in which packages are missing."""

import os
import subprocess
import sys
from pathlib import Path

# None in sys.modules is a package that cannot be found.
PROGRAM = """
import sys
sys.modules.update(dict.fromkeys({absent!r}))
from anon_export.cli import main
main(sys.argv[1:])
"""


NONE = ("--faces", "none")


def run(absent: tuple[str, ...], *arguments: object, path: Path | None = None) -> tuple[int, str, str]:
    """`anon-export` without some packages: exit code, output, errors."""
    command = [sys.executable, "-c", PROGRAM.format(absent=absent), *map(str, arguments)]
    before = os.environ.get("PYTHONPATH", "")
    environment = os.environ | ({"PYTHONPATH": f"{path}{os.pathsep}{before}"} if path else {})
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    return done.returncode, done.stdout, done.stderr
