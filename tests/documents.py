"""The pages of the documentation as blocks of code, and what running one takes."""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import io
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import click
from conftest import ROOT
from markdown_it import MarkdownIt

from yolact.cli import cli, main

INTEGRATIONS = ROOT / "docs/integrations"  # tests/integrations runs them, beside the libraries
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("examples/*/*.md"), *(ROOT / "docs").rglob("*.md")]
    if path.parent != INTEGRATIONS
)
SHELL = ("sh", "console")  # commands alone; or after "$ ", with what they print
PYTHON = ("python", "pycon")
LANGUAGES = {*SHELL, *PYTHON, "text"}  # others cannot be run, and say why
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->")
SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Block:
    """A block of code of a page."""

    page: Path
    line: int  # of its first line of code, from 1
    language: str
    text: str
    not_run: str | None  # why, as the comment before it says

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """All of them but the site's own directives."""
    found = []
    before = None
    for token in MarkdownIt("commonmark").parse(page.read_text()):
        if token.type in ("fence", "code_block") and not token.info.startswith("{"):
            assert token.map is not None
            reason = NOT_RUN.fullmatch(before.content.strip()) if before and before.type == "html_block" else None
            found.append(Block(page, token.map[0] + 2, token.info, token.content, reason and reason[1]))
        before = token
    return found


@dataclass(frozen=True)
class Command:
    """A command line of a block, and what the page says that it prints; None: it does not say."""

    words: tuple[str, ...]
    output: str | None


def commands_of(block: Block) -> Iterator[Command]:
    """The lines of a shell, joined where they go on."""
    text = block.text.replace("\\\n", " ")
    if block.language == "sh":
        for line in text.splitlines():
            if words := shlex.split(line, comments=True):
                yield Command(tuple(words), None)
        return
    before, *parts = re.split(r"^\$ ", text, flags=re.MULTILINE)
    assert not before, f"{block.place}: {before!r} comes before any command"
    for part in parts:
        line, _, output = part.partition("\n")
        yield Command(tuple(shlex.split(line, comments=True)), output)


def yolact_arguments(words: tuple[str, ...]) -> list[str] | None:
    """What a command line hands to `yolact`, by its own name or through torchrun; None: it calls something else."""
    if words[0] == "yolact":
        return list(words[1:])
    if words[0] == "torchrun" and "yolact.cli" in words:
        return list(words[words.index("yolact.cli") + 1 :])
    return None


def parse(arguments: list[str]) -> None:
    """Raise where `yolact` would refuse the names of commands and options, or the form of their values."""
    command: click.Command = cli
    context = click.Context(cli, info_name="yolact")
    while isinstance(command, click.Group) and arguments:
        name, *arguments = arguments
        found = command.get_command(context, name)
        if found is None:
            raise click.UsageError(f"yolact has no command {name!r}")
        command = found
    command.make_context("yolact", arguments, parent=context)


def run_command(command: Command) -> str:
    """What a call of `yolact` prints, both streams together; it must succeed."""
    program, *arguments = command.words
    assert program == "yolact", f"{program} cannot be run here; mark the block: <!-- not run: why -->"
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        status = main(arguments)
    assert status == 0, f"{shlex.join(command.words)} ended with {status}: {told.getvalue()}"
    return told.getvalue()


def run(block: Block, names: dict[str, Any]) -> None:
    """Run a block with the names that the page has defined so far."""
    if block.language == "python":
        exec(compile("\n" * (block.line - 1) + block.text, block.page, "exec"), names)
    elif block.language == "pycon":
        run_examples(block.text, names, block.place)
    elif block.language in SHELL:
        for command in commands_of(block):
            told = run_command(command)
            if command.output is not None:
                compare(command.output, told)


def run_examples(text: str, names: dict[str, Any], place: str) -> None:
    """Run the lines after >>> and compare what they print."""
    test = doctest.DocTestParser().get_doctest(text, names, place, place, 0)
    told = io.StringIO()
    failed, _ = doctest.DocTestRunner(optionflags=SAME).run(test, out=told.write, clear_globs=False)
    names.update(test.globs)
    assert not failed, told.getvalue()


def examples_of(module: ModuleType) -> list[doctest.DocTest]:
    """The docstrings of a module that have any."""
    return [test for test in doctest.DocTestFinder().find(module) if test.examples]


def compare(expected: str, found: str) -> None:
    """Compare what a page says is printed, where `...` stands for anything, with what was."""
    same = doctest.OutputChecker().check_output(expected, found, SAME)
    assert same, f"the page says\n{expected}\nbut there came\n{found}"


def check_named(command: Command) -> None:
    """Whatever a line that is not run names exists: options, targets of make, extras, modules."""
    words = command.words
    if (arguments := yolact_arguments(words)) is not None:
        parse(arguments)
    elif words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        for target in words[1:]:
            assert "=" in target or target in targets, f"make has no target {target!r}"
    elif words[0] in ("pip", "uv"):
        project = (ROOT / "pyproject.toml").read_text()
        for extras in re.findall(r"(?:yolact|\.)\[([\w,]+)\]", shlex.join(words)):
            for extra in extras.split(","):
                assert re.search(rf"^{extra} = \[", project, re.MULTILINE), f"there is no extra {extra!r}"
    elif words[0].startswith("python") and "-m" in words:
        module = words[words.index("-m") + 1]
        assert importlib.util.find_spec(module), f"there is no module {module!r}"
    else:
        built = words[0] == "cmake" or words[0].startswith("build/")  # by tests/test_examples.py
        assert built, f"{words[0]}: say in tests/documents.py how to check a line of it"
