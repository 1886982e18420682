"""How a benchmark ends when it cannot run: with one line on standard error and an exit code, without a traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from anon_runtime.errors import AnonError


class MissingPackageError(AnonError):
    """A package that a benchmark needs is not installed."""


@contextmanager
def one_line_errors(module: str, *, extras: str) -> Iterator[None]:
    """End the program with one line where a package is missing or an error of this project is raised.

    Benchmarks use it twice: around the imports of packages that not everybody has installed, and around ``main()``.
    Where another module imports the benchmark, errors pass through.

    Args:
        module: the ``__name__`` of the benchmark.
        extras: the extras of this project that the benchmark needs, such as ``export,demo``.

    Raises:
        SystemExit: the benchmark is the program that runs, and it cannot go on.
    """
    try:
        yield
    except (AnonError, ModuleNotFoundError) as error:
        foreseen = error if isinstance(error, AnonError) else explain_missing_package(error, extras)
        if module != "__main__" or foreseen is None:
            raise
        sys.exit(print_error(foreseen, _program()))


def explain_missing_package(error: ModuleNotFoundError, extras: str) -> MissingPackageError | None:
    """A failed import as an error for users; None if the package is installed, and only a part of it is missing."""
    package = (error.name or "").partition(".")[0]
    if not package or find_spec(package) is not None:
        return None
    fix = f"run `pip install 'anon-engines[{extras}]'`"
    return MissingPackageError(f"package {package}", "it is not installed", fix)


def print_error(error: AnonError, program: str) -> int:
    """Print an error on standard error.

    Returns:
        The exit code that belongs to it.
    """
    print(f"{program}: error: {error}", file=sys.stderr)
    return error.exit_code


def _program() -> str:
    """The name of the benchmark that runs: ``exactness`` for ``python -m benchmarks.exactness``."""
    path = Path(sys.argv[0])
    return path.parent.name if path.stem == "__main__" else path.stem
