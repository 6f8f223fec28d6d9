"""The directive `command`: what `yolact NAME --help` prints, without running it."""

from __future__ import annotations

import click
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from yolact.cli import cli


class Command(SphinxDirective):
    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        name = "yolact"
        command: click.Command = cli
        for word in self.arguments[0].split():
            assert isinstance(command, click.Group)
            command = command.commands[word]
            name += f" {word}"
        with click.Context(command, info_name=name, terminal_width=100, max_content_width=100) as context:
            text = command.get_help(context)
        return [nodes.literal_block(text, text, language="text")]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("command", Command)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
