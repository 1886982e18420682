"""Messages of the library name settings, never options of a command line: `anon_runtime.errors.in_flags` adds them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import anon_runtime

PACKAGE = Path(anon_runtime.__file__).parent
# The command line itself names options.
COMMAND_LINE = {"cli.py", "command_line.py", "commands.py", "console.py", "fast_help.py", "serve.py"}
OPTION = re.compile(r"--[a-z]")
# A complete command is an instruction. In an f-string its end may be in another part.
COMMAND = re.compile(r"`(anon-export|anon-run|ray) [^`]*(`|$)")


def messages(source: str) -> Iterator[tuple[int, str]]:
    """The strings of a module that are no docstrings, with their lines."""
    tree = ast.parse(source)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


def named_options(source: str) -> list[tuple[int, str]]:
    return [(line, text) for line, text in messages(source) if OPTION.search(COMMAND.sub("", text))]


def test_no_message_names_an_option() -> None:
    modules = [path for path in PACKAGE.rglob("*.py") if path.name not in COMMAND_LINE]
    assert len(modules) > 40
    found = {path.name: named_options(path.read_text()) for path in modules}
    assert {name: options for name, options in found.items() if options} == {}


def test_the_check_would_notice() -> None:
    assert named_options('"""Docstrings may say --steps."""\nraise UsageError("x", "y", "use --steps 3")')
    assert not named_options('fix = "build it with `anon-export build --faces`"')
