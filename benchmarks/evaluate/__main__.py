"""The command: folders in, a report out."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm.contrib.logging import logging_redirect_tqdm

from anon_runtime import Anonymizer
from anon_runtime.errors import AnonError, UsageError
from anon_runtime.folder.identity import read_seed

from . import baselines, contact_sheet, plots, report
from .evaluation import TABLES, Study, evaluate
from .labels import Labels, read_names
from .pairs import ImageFile, Method, find_images, pair

DESCRIPTION = """\
Measure how anonymous, useful and good anonymized images are, as the paper does in its Tables I, II and III, and who
is alone with a prompt. Any anonymizer's output will do: two folders of images are all that is needed."""
EPILOG = """\
examples:
  python -m benchmarks.evaluate photos ours=out -o report
        photos/ against out/, a folder that anon-run wrote
  python -m benchmarks.evaluate photos ours=out dp2=dp2 --labels labels.csv --baselines blur,mask -o report
        two methods and the classic ones, with labels
  python -m benchmarks.evaluate photos ours=out --tables reid,attributes -o report
        only some of the tables

Images are paired by anon-run's journal where the folder has one (--rename hash included), else by name, whatever the
ending. LABELS is a CSV file with a column `file` and any of CelebA's attributes (0 or 1), ethnicity, age, emotion,
valence and arousal; what it lacks is compared with what is read from the originals.

REPORT gets report.md, report.json, charts, contact-sheet.html, and cache/ with what networks said of images: a second
run reads it again. The cache holds faces' embeddings, which are biometric data: delete it when you are done.

Rows whose weights or packages are not on this machine say what to download and where to put it; nothing is downloaded
without being asked for. Exit codes: 0 done, 1 the report cannot be written, 2 wrong usage."""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evaluate", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("originals", type=Path, metavar="ORIGINALS", help="a folder of photos")
    parser.add_argument("methods", nargs="*", metavar="NAME=ANONYMIZED", help="an anonymizer's name and its folder")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="REPORT", help="the folder for the report")
    parser.add_argument("--labels", type=Path, help="what is true of the people in the originals")
    parser.add_argument("--held-out", type=Path, metavar="LIST",
                        help="names, one a line, of originals that the networks were not trained on; the tables give "
                             "their figures beside those of all")  # fmt: skip
    parser.add_argument("--tables", default=",".join(TABLES), help="which ones; default: %(default)s")
    parser.add_argument("--baselines", default="", metavar="KINDS",
                        help=f"make and evaluate classic methods, too: {','.join(baselines.BASELINES)}")  # fmt: skip
    parser.add_argument("--engines", type=Path, default=Path("engines/demo"), metavar="BUNDLE",
                        help="the bundle whose face engines read images; default: %(default)s")  # fmt: skip
    parser.add_argument("--seed-file", type=Path, metavar="FILE", help="of runs with --rename hash")
    parser.add_argument("--show-originals", action="store_true", help="show the originals on the contact sheet, too")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    """Evaluate and write the report.

    Raises:
        AnonError: the folders do not fit together, or the report cannot be written.
    """
    tables = choose("--tables", options.tables, TABLES)
    kinds = choose("--baselines", options.baselines, tuple(baselines.BASELINES))
    originals, broken = find_images(options.originals)
    for name, why in broken.items():
        logging.warning("%s is left out: %s", name, why)
    if not originals:
        raise UsageError(f"folder {options.originals}", "no image in it can be read", "give a folder of photos")
    if options.seed_file and not options.seed_file.is_file():
        raise UsageError(f"--seed-file {options.seed_file}", "there is no such file", "name that of the run")
    seed = read_seed(options.seed_file)[0] if options.seed_file else None
    methods = [_method(text, originals, seed) for text in options.methods]
    options.output.mkdir(parents=True, exist_ok=True)
    if kinds:
        methods += baselines.make(kinds, originals, Anonymizer.load(options.engines), options.output / "baselines")
    if not methods:
        raise UsageError("nothing to evaluate", "no method is named", "add NAME=FOLDER or --baselines blur")
    if twice := {m.name for m in methods if sum(m.name == other.name for other in methods) > 1} | (
        {m.name for m in methods} & {"originals"}
    ):
        raise UsageError(f"method {', '.join(twice)}", "the name is taken", "give every method a name of its own")
    for method in methods:
        if method.missing:
            logging.warning("%s: %d of %d originals have no image", method.name, len(method.missing), len(originals))
    study = Study(
        originals, methods,
        Labels.read(options.labels, originals) if options.labels else None,
        read_names(options.held_out, originals) if options.held_out else None,
        options.engines, options.output / "cache",
    )  # fmt: skip
    figures = evaluate(study, tables) | {"unreadable": broken}
    write(options.output, figures, study, options.show_originals)


def write(folder: Path, figures: dict[str, object], study: Study, show_originals: bool) -> None:
    """Put everything into the report's folder."""
    (folder / "report.json").write_text(json.dumps(figures, indent=1))
    made = plots.draw(figures, folder)
    shown = "\n".join(f"![{path.stem}]({path.name})\n" for path in made)
    (folder / "report.md").write_text(f"{report.render(figures)}\n{shown}")
    page = contact_sheet.contact_sheet(study.originals, study.methods, show_originals)
    (folder / "contact-sheet.html").write_text(page, encoding="utf-8")


def choose(option: str, text: str, known: Sequence[str]) -> tuple[str, ...]:
    """The names of a list with commas.

    Raises:
        UsageError: one is unknown.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"{option} {text}", f"unknown: {', '.join(unknown)}", f"choose from {', '.join(known)}")
    return names


def _method(text: str, originals: Sequence[ImageFile], seed: int | None) -> Method:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise UsageError(text, "it is not NAME=FOLDER", "such as ours=out")
    return pair(name, originals, Path(folder), seed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point: an error that was foreseen becomes one line and an exit code."""
    options = parse(arguments)
    logging.basicConfig(level=logging.WARNING, format="evaluate: %(message)s")
    try:
        with logging_redirect_tqdm():
            run(options)
    except AnonError as error:
        print(f"evaluate: error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(
            f"evaluate: error: {options.output}: {error.strerror}; choose a folder that can be written", file=sys.stderr
        )
        return 1
    print(options.output / "report.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
