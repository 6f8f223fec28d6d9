"""Signatures as the sources have them: a line a parameter, and beside it the comment that tells its shape."""

from __future__ import annotations

import inspect
import io
import re
import tokenize
from importlib import import_module
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

FIELD = re.compile(r"\s*\*{0,2}(\w+)\s*:")
RETURNS = re.compile(r"\s*\).*->")


def comments_of(subject: Any) -> dict[str, str]:
    """The comments beside the parameters of a function or the fields of a class; beside what is returned, "return"."""
    source = inspect.getsource(subject)
    lines = source.splitlines()
    found: dict[str, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        before = lines[token.start[0] - 1][: token.start[1]]
        if field := FIELD.match(before):
            found.setdefault(field[1], token.string)
        elif RETURNS.match(before):
            found.setdefault("return", token.string)
    return found


def add_comments(app: Sphinx, domain: str, kind: str, content: addnodes.desc_content) -> None:
    """Lay a signature out a line a parameter where the source has comments, and put them in."""
    if domain != "py" or kind not in ("function", "method", "class"):
        return
    for signature in content.parent.children[:-1]:
        subject: Any = import_module(signature["module"])
        for name in signature["fullname"].split("."):
            subject = getattr(subject, name)
        comments = comments_of(inspect.unwrap(subject))
        for parameters in signature.findall(addnodes.desc_parameterlist):
            commented = [p for p in parameters if p[0].astext().lstrip("*") in comments]
            if not commented:
                continue
            parameters["multi_line_parameter_list"] = True
            parameters["multi_line_trailing_comma"] = False
            parameters.child_text_separator = ""  # a comment stands after the comma
            for parameter in parameters:
                parameter += nodes.Text(",")
                if parameter in commented:
                    parameter += comment(comments[parameter[0].astext().lstrip("*")])
        if "return" in comments:
            signature += comment(comments["return"])


def comment(text: str) -> nodes.inline:
    return nodes.inline("", f"  {text}", classes=["c1"])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("object-description-transform", add_comments)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
