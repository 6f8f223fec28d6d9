"""The directive `commands`: what `yolact NAME --help` prints for every command, a section each."""

from __future__ import annotations

from collections.abc import Iterator

import click
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from yolact.cli import cli


def helps(group: click.Group, before: str) -> Iterator[tuple[str, str]]:
    """The name of each command, and its help."""
    for name, command in sorted(group.commands.items()):
        whole = f"{before} {name}"
        if isinstance(command, click.Group):
            yield from helps(command, whole)
        else:
            with click.Context(command, info_name=whole, terminal_width=100, max_content_width=100) as context:
                yield whole, command.get_help(context)


class Commands(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        sections = []
        for name, text in helps(cli, "yolact"):
            section = nodes.section("", nodes.title("", name), ids=[nodes.make_id(name)], names=[name])
            self.state.document.note_explicit_target(section)
            section += nodes.literal_block(text, text, language="text")
            sections.append(section)
        return sections


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
