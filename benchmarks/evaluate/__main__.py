"""The command line: it reads folders of images and writes a report."""

import argparse
import json
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from tqdm.contrib.logging import logging_redirect_tqdm

from anon_runtime import Anonymizer
from anon_runtime.errors import AnonError, OutputError, UsageError
from anon_runtime.folder.identity import read_seed

from ..command_line import one_line_errors, print_error

with one_line_errors(__name__, extras="export,evaluate"):
    from . import baselines
    from .evaluation import TABLES, evaluate
    from .labels import Labels, read_names
    from .pairs import ImageFile, Method, find_images, pair
    from .report import answer, contact_sheet, page, plots, text
    from .study import Study

T = TypeVar("T", bound=str)

DESCRIPTION = """\
Measure who finds people again in anonymized images, and what he has to know for it; the utility and quality of the
images, as the paper does in its Tables I, II and III; and the k-anonymity of the prompts. Any anonymizer can be
evaluated: two folders of images are enough."""
EPILOG = """\
examples:
  python -m benchmarks.evaluate photos ours=out -o report
        compare photos/ with out/, a folder that anon-run wrote
  python -m benchmarks.evaluate photos ours=out dp2=dp2 --labels labels.csv --baselines blur,mask -o report
        evaluate two methods and two baselines, with labels
  python -m benchmarks.evaluate photos ours=out --tables reid,attributes -o report
        compute only some of the tables

Images are paired by the journal of anon-run where the folder has one (also with --rename hash), and otherwise by name;
extensions are ignored. LABELS is a CSV file with a column `file` and any of the attributes of CelebA (0 or 1),
ethnicity, age, emotion, valence and arousal. For a column that is missing, the values that are read from the originals
are used.

REPORT receives report.html, which begins with the answer, report.md and report.json, plots, contact-sheet.html and
cache/. The cache keeps the outputs of the networks, so that a second run does not compute them again. It holds face
embeddings, which are biometric data: delete it when you are done.

For a row whose weights or packages are missing, the report names what to download and where to put it. Nothing is
downloaded. Exit codes: 0 done, 1 the report cannot be written or a package is missing, 2 wrong usage."""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evaluate",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("originals", type=Path, metavar="ORIGINALS", help="folder of photos")
    parser.add_argument("methods", nargs="*", metavar="NAME=ANONYMIZED", help="name of an anonymizer and its folder")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="REPORT", help="folder for the report")
    parser.add_argument("--labels", type=Path, help="CSV file with labels of the originals")
    parser.add_argument(
        "--held-out",
        type=Path,
        metavar="LIST",
        help="file with names, one per line, of originals that the networks were not trained on; the tables also show "
        "the figures of these originals alone",
    )
    parser.add_argument("--tables", default=",".join(TABLES), help="tables to compute; default: %(default)s")
    parser.add_argument(
        "--baselines",
        default="",
        metavar="KINDS",
        help=f"also apply and evaluate classic methods: {','.join(baselines.BASELINES)}",
    )
    parser.add_argument(
        "--engines",
        type=Path,
        default=Path("engines/demo"),
        metavar="BUNDLE",
        help="bundle whose face engines read the images; default: %(default)s",
    )
    parser.add_argument(
        "--identity",
        type=Path,
        metavar="FILE.onnx",
        help="a face-recognition network of your own, which takes faces as ArcFace does: it is one more row of Table I",
    )
    parser.add_argument(
        "--training-set",
        type=Path,
        metavar="FOLDER",
        help="folder of the pictures that the generator was trained on, to measure whether it paints them from memory",
    )
    parser.add_argument(
        "--seed-file",
        type=Path,
        metavar="FILE",
        help="file with the seed of the runs: for --rename hash, and for the attacker who knows the seed",
    )
    parser.add_argument("--show-originals", action="store_true", help="also show the originals on the contact sheet")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    """Evaluate and write the report.

    Raises:
        AnonError: the folders do not fit together, or the report cannot be written.
    """
    tables = choose("--tables", options.tables, TABLES)
    kinds = choose("--baselines", options.baselines, tuple(baselines.BASELINES))
    originals, broken = _read(options.originals)
    if options.identity and not options.identity.is_file():
        raise UsageError(f"--identity {options.identity}", "there is no such file", "give an ONNX file")
    training = _read(options.training_set)[0] if options.training_set else None
    if options.seed_file and not options.seed_file.is_file():
        raise UsageError(f"--seed-file {options.seed_file}", "there is no such file", "give the seed file of the run")
    seed = read_seed(options.seed_file)[0] if options.seed_file else None
    methods = [_method(text, originals, seed) for text in options.methods]
    options.output.mkdir(parents=True, exist_ok=True)
    if kinds:
        methods += baselines.apply(kinds, originals, Anonymizer.load(options.engines), options.output / "baselines")
    if not methods:
        raise UsageError("nothing to evaluate", "no method is named", "add NAME=FOLDER or --baselines blur")
    counts = Counter(["originals", *(method.name for method in methods)])
    if taken := [name for name, count in counts.items() if count > 1]:
        raise UsageError(f"method {', '.join(taken)}", "the name is taken", "give every method a different name")
    for method in methods:
        if method.missing:
            logging.warning("%s: %d of %d originals have no image", method.name, len(method.missing), len(originals))
    study = Study(
        originals,
        methods,
        Labels.read(options.labels, originals) if options.labels else None,
        read_names(options.held_out, originals) if options.held_out else None,
        options.engines,
        options.output / "cache",
        options.identity,
        training,
    )
    figures = evaluate(study, tables) | {"unreadable": broken}
    write(options.output, figures, study, options.show_originals)


def write(folder: Path, figures: dict[str, object], study: Study, show_originals: bool) -> None:
    """Write all files of the report."""
    (folder / "report.json").write_text(json.dumps(figures, indent=1))
    drawn, tables = plots.draw(figures, folder), text.render(figures)
    images = "\n".join(f"![{path.stem}]({path.name})\n" for path in drawn)
    (folder / "report.md").write_text(f"{tables}\n{images}", encoding="utf-8")
    title = f"Evaluation of {', '.join(method.name for method in study.methods)}"
    html = page.render(title, answer.answer(figures), tables, [(path.stem, path) for path in drawn])
    (folder / "report.html").write_text(html, encoding="utf-8")
    sheet = contact_sheet.contact_sheet(study.originals, study.methods, show_originals)
    (folder / "contact-sheet.html").write_text(sheet, encoding="utf-8")


def choose(option: str, text: str, known: Sequence[T]) -> tuple[T, ...]:
    """The names of a comma-separated list.

    Raises:
        UsageError: a name is not known.
    """
    by_name: dict[str, T] = {name: name for name in known}
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in by_name]:
        raise UsageError(f"{option} {text}", f"unknown: {', '.join(unknown)}", f"choose from {', '.join(known)}")
    return tuple(by_name[name] for name in names)


def _read(folder: Path) -> tuple[list[ImageFile], dict[str, str]]:
    """The images of a folder, and the reasons why others of it cannot be read; these are logged."""
    images, broken = find_images(folder)
    for name, why in broken.items():
        logging.warning("%s is left out: %s", name, why)
    if not images:
        raise UsageError(f"folder {folder}", "no image in it can be read", "give a folder of photos")
    return images, broken


def _method(text: str, originals: Sequence[ImageFile], seed: int | None) -> Method:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise UsageError(text, "it is not NAME=FOLDER", "write it like ours=out")
    return pair(name, originals, Path(folder), seed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit code; an error is printed as one line.
    """
    options = parse(arguments)
    logging.basicConfig(level=logging.WARNING, format="evaluate: %(message)s")
    try:
        with logging_redirect_tqdm():
            run(options)
    except AnonError as error:
        return print_error(error, "evaluate")
    except OSError as error:
        why = error.strerror or str(error)
        return print_error(OutputError(str(options.output), why, "choose a folder that can be written"), "evaluate")
    print(options.output / "report.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
