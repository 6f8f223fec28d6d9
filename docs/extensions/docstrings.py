"""Signatures as the sources have them: a line a parameter, and beside it the comment that tells its shape."""

from __future__ import annotations

import ast
import inspect
import io
import tokenize
from dataclasses import is_dataclass
from importlib import import_module
from textwrap import dedent
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

RETURNED = "->"


def definition_of(subject: Any) -> ast.stmt:
    """A function or class as it is written; its lines count from 1."""
    return ast.parse(dedent(inspect.getsource(subject))).body[0]


def fields_of(definition: ast.ClassDef) -> list[ast.AnnAssign]:
    return [line for line in definition.body if isinstance(line, ast.AnnAssign)]


def comments_of(subject: Any) -> dict[str, str]:
    """The comments beside the parameters of a function or the fields of a class, and beside what is RETURNED."""
    definition = definition_of(subject)
    if isinstance(definition, ast.ClassDef):
        lines = {field.end_lineno: ast.unparse(field.target) for field in fields_of(definition)}
    else:
        assert isinstance(definition, ast.FunctionDef)
        given = definition.args
        parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        lines = {parameter.lineno: parameter.arg for parameter in parameters if parameter}
        lines[definition.body[0].lineno - 1] = RETURNED
    source = io.StringIO(dedent(inspect.getsource(subject)))
    return {
        lines[token.start[0]]: token.string
        for token in tokenize.generate_tokens(source.readline)
        if token.type == tokenize.COMMENT and token.start[0] in lines
    }


def sign_dataclass(
    app: Sphinx, kind: str, name: str, subject: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str, None] | None:
    """The signature of a dataclass in the words of its source: defaults by their names, not as long as they are."""
    if not is_dataclass(subject) or not signature:
        return None
    definition = definition_of(subject)
    assert isinstance(definition, ast.ClassDef)
    return f"({', '.join(ast.unparse(field) for field in fields_of(definition))})", None


def keep_whole(app: Sphinx, kind: str, name: str, subject: Any, options: Any, lines: list[str]) -> None:
    """A property's first line as it is, of which Napoleon would take what is before a colon for a type."""
    if kind == "property":
        lines[:0] = ["..", ""]  # an empty comment


def add_comments(app: Sphinx, domain: str, kind: str, content: addnodes.desc_content) -> None:
    """Lay a signature out a line a parameter where the source has comments, and put them in."""
    if domain != "py" or kind not in ("function", "method", "staticmethod", "classmethod", "class"):
        return
    for signature in content.parent.children[:-1]:
        subject: Any = import_module(signature["module"])
        for name in signature["fullname"].split("."):
            subject = getattr(subject, name)
        comments = comments_of(inspect.unwrap(subject))
        for parameters in signature.findall(addnodes.desc_parameterlist):
            if not comments.keys() - {RETURNED}:
                continue
            parameters["multi_line_parameter_list"] = True
            parameters["multi_line_trailing_comma"] = False
            parameters.child_text_separator = ""  # a comment stands after the comma
            for parameter in parameters:
                parameter += nodes.Text(",")
                if text := comments.get(parameter[0].astext().lstrip("*")):
                    parameter += comment(text)
        if RETURNED in comments:
            signature += comment(comments[RETURNED])


def comment(text: str) -> nodes.inline:
    return nodes.inline("", f"  {text}", classes=["c1"])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-signature", sign_dataclass)
    app.connect("autodoc-process-docstring", keep_whole, priority=400)  # before Napoleon
    app.connect("object-description-transform", add_comments)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
