"""What the documentation names exists: files, links, options, modules, make targets and error messages."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import anon_export.cli
import anon_runtime.cli
import anon_runtime.serve

ROOT = Path(__file__).parents[1]
FRONT = [path for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md") if (path := ROOT / name).is_file()]
PAGES = [*FRONT, *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = [path for top in ("runtime", "export", "benchmarks", "tests") for path in sorted((ROOT / top).rglob("*.py"))]
# Options of other programs that these pages name: pip and ray. CONTRIBUTING.md names those of many tools.
OTHER_OPTIONS = {"--no-deps", "--head"}

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def without_code(text: str) -> str:
    """A page without its blocks and spans of code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))


def code(text: str) -> Iterator[str]:
    """The blocks and spans of code of a page."""
    yield from re.findall(r"^```\w*\n(.*?)^```", text, flags=re.S | re.M)
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))


def anchors(page: Path) -> set[str]:
    """What a link into a page can end with, as GitHub and mkdocs make it from the headings."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


@every_page
def test_relative_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text()))
    for link in (link for link in links if not re.match(r"[a-z]+:", link)):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{link}: there is no such file"
        assert not anchor or anchor in anchors(target), f"{link}: the page has no such heading"


@every_page
def test_files_that_are_named_exist(page: Path) -> None:
    modules = [f"/{path.relative_to(ROOT)}" for path in SOURCES]
    for name in (word for block in code(page.read_text()) for word in re.findall(r"[\w./-]+\.py\b", block)):
        assert any(module.endswith(f"/{name}") for module in modules), f"{name}: there is no such module"
    tops = "runtime|export|benchmarks|tests|docs"
    for name in re.findall(rf"`((?:{tops})/[\w./-]+)`", page.read_text()):
        assert (ROOT / name).exists(), f"{name}: there is no such file or folder"


@pytest.mark.parametrize("package", ["runtime/anon_runtime", "export/anon_export"])
def test_the_tree_of_the_architecture_is_the_packages(package: str) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    tree = re.search(rf"^{package}/\n(.*?)^```", page, flags=re.S | re.M)
    assert tree is not None
    folder = Path()
    for line in tree[1].splitlines():
        # Names end where the description begins, two spaces or more behind them; between names there are two.
        depth, names = len(line) - len(line.lstrip()), re.findall(r"(?:^|  )(\w+(?:\.py|/))(?=  |$)", line.strip())
        assert names, f"{line!r}: names no file or folder"
        for name in names:
            folder = Path(name) if name.endswith("/") else folder if depth > 2 else Path()
            path = Path(package) / (folder if name.endswith("/") else folder / name)
            assert (ROOT / path).exists(), f"{path}: there is no such file or folder"


def options() -> set[str]:
    """All options of the commands and of the benchmarks."""
    served = anon_runtime.serve.command
    groups: list[click.Command] = [anon_runtime.cli.command, served, *anon_export.cli.command.commands.values()]
    found = {name for group in groups for p in group.params for name in (*p.opts, *p.secondary_opts)}
    for path in (ROOT / "benchmarks").rglob("*.py"):
        found.update(re.findall(r'"(--[a-z-]+)"', path.read_text()))
    return found | {"--help", "--version"} | OTHER_OPTIONS


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_options_that_are_named_exist(page: Path) -> None:
    named = {name for block in code(page.read_text()) for name in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", block)}
    assert named <= options()


@every_page
def test_modules_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    for name in re.findall(r"\bbenchmarks\.[a-z_.]*[a-z]", "\n".join(code(text))):
        place = ROOT.joinpath(*name.split("."))
        assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file(), (
            f"{name}: there is no such module"
        )
    for name in re.findall(r"(?:`|^::: )(anon_runtime(?:\.\w+)+)", text, flags=re.M):
        assert resolve(name) is not None, f"{name}: there is no such thing"


def resolve(name: str) -> object:
    """What a dotted name stands for; None if there is nothing."""
    found: object = importlib.import_module("anon_runtime")
    path = "anon_runtime"
    for part in name.split(".")[1:]:
        path = f"{path}.{part}"
        try:
            found = getattr(found, part, None) or importlib.import_module(path)
        except ModuleNotFoundError:
            return None
    return found


@every_page
def test_make_targets_that_are_named_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    named = {
        name for block in code(page.read_text()) for name in re.findall(r"^make ([a-z][a-z-]*)", block, flags=re.M)
    }
    assert named <= targets


def test_messages_that_are_explained_exist() -> None:
    # Long messages are written as several literals, one a line.
    packages = [path for path in SOURCES if path.relative_to(ROOT).parts[0] in ("runtime", "export")]
    sources = re.sub(r'"\s*\n\s*f?"', "", "\n".join(path.read_text() for path in packages))
    messages = re.findall(r"^\| `([^`]+)`", (ROOT / "docs" / "troubleshooting.md").read_text(), flags=re.M)
    assert len(messages) > 40
    assert [message for message in messages if message not in sources] == []
