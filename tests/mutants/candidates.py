"""Every way in which the kernels are broken: one token or term at a time, and what it leaves is C++ of another meaning.

The files are read as tokens, and trusted to be laid out by clang-format: an operator with a blank on either side is a
binary one, a `<` without one before it opens a template's arguments. What only nvcc sees, static_asserts and everything
outside a function's body are left alone.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

TOKEN = re.compile(
    r"""(?P<blank>\s+|//[^\n]*|/\*.*?\*/|\\\n)
      | (?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
      | (?P<number>(?:0[xX][0-9a-fA-F']+|\.?\d(?:[\w.']|[eE][+-])*)[uUlLfF]*)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<sign><<=|>>=|\.\.\.|->|::|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|.)""",
    re.VERBOSE | re.DOTALL,
)

BARRIERS = {"__syncthreads", "__syncwarp", "__syncthreads_count", "__syncthreads_or", "__syncthreads_and"}
WARP_INTRINSICS = {"__ballot_sync", "__any_sync", "__all_sync"} | {
    f"__shfl_{way}sync" for way in ("", "up_", "down_", "xor_")
}
ATOMICS = {f"atomic{name}" for name in ("Add", "Max", "Min", "Or", "And", "Xor", "Exch", "CAS")}

OFF_BY_ONE = {"<": ("<=", "< -1 +"), "<=": ("<", "<= 1 +"), ">": (">=", "> 1 +"), ">=": (">", ">= -1 +")}
SWAPPED_COMPARISON = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "==", "&&": "||", "||": "&&"}
SWAPPED_OPERATOR = {"+": "-", "-": "+", "/": "%", "%": "/", "<<": ">>", ">>": "<<", "+=": "-=", "-=": "+="}
SWAPPED_NAMES = [
    ("x", "y"),
    ("row", "column"),
    ("rows", "columns"),
    ("height", "width"),
    ("out_height", "out_width"),
    ("index0", "index1"),
    ("weight0", "weight1"),
    ("x1", "x2"),
    ("y1", "y2"),
    ("left", "right"),
    ("first", "last"),
    ("begin", "end"),
    ("low", "high"),
    ("before", "after"),
    ("min", "max"),
]
SWAPPED_NAME = {a: b for pair in SWAPPED_NAMES for a, b in (pair, pair[::-1])}

# How tightly binary operators bind; a term of one ends at the next that binds less or as much.
BINDS = {"?": 0, ":": 0, "||": 1, "&&": 2, "|": 3, "^": 4, "&": 5, "==": 6, "!=": 6, "<": 7, "<=": 7, ">": 7, ">=": 7}
BINDS |= {"<<": 8, ">>": 8, "+": 9, "-": 9, "*": 10, "/": 10, "%": 10}
BINDS |= dict.fromkeys(("=", "+=", "-=", "*=", "/=", "|=", "&=", "^=", "<<=", ">>=", ",", ";", "return"), -1)
CLOSING = {"(": ")", "[": "]", "{": "}"}

KINDS = ("barrier", "atomic", "bound", "comparison", "term", "operator", "swap", "shift", "mask", "launch")


@dataclass(frozen=True)
class Token:
    kind: str
    text: str
    begin: int
    end: int


@dataclass(frozen=True)
class Candidate:
    """A change of source[begin:end] to `new`. Its identity is `key`: neither lines nor other functions matter to it."""

    file: str
    function: str
    kind: str
    change: str  # the tokens around it, with [what stood there -> what stands there now]
    ordinal: int  # among those of the function that read the same
    line: int
    begin: int
    end: int
    new: str

    @property
    def key(self) -> tuple[str, ...]:
        return (self.file, self.function, self.kind, self.change, str(self.ordinal))


def tokens_of(source: str) -> list[Token]:
    """The tokens that the host compiler sees: no comments, no directives, no branch of nvcc's."""
    found, position, hidden = [], 0, []
    for line in re.finditer(r"^[ \t]*#(?:\\\n|[^\n])*", source, re.MULTILINE):
        found += _plain_tokens(source, position, line.start()) if not any(hidden) else []
        position = line.end()
        directive = line.group().strip().lstrip("#").split(maxsplit=1)
        if directive[0] in ("if", "ifdef", "ifndef"):
            hidden.append("__CUDA" in directive[1] and directive[0] != "ifndef" and "!defined" not in directive[1])
        elif directive[0] in ("else", "elif"):
            hidden[-1] = not hidden[-1]
        elif directive[0] == "endif":
            hidden.pop()
    return found + _plain_tokens(source, position, len(source))


def _plain_tokens(source: str, begin: int, end: int) -> list[Token]:
    return [
        Token(match.lastgroup or "", match.group(), match.start(), match.end())
        for match in TOKEN.finditer(source, begin, end)
        if match.lastgroup != "blank"
    ]


def candidates_of(path: Path, root: Path) -> list[Candidate]:
    return _File(path.read_text(), path.relative_to(root).as_posix()).candidates()


class _File:
    def __init__(self, source: str, name: str) -> None:
        self.source, self.name = source, name
        self.tokens = tokens_of(source)
        self.partner = self._partners()
        self.function = self._functions()
        self.found: list[Candidate] = []

    def candidates(self) -> list[Candidate]:
        i = 0
        while i < len(self.tokens):
            text = self.tokens[i].text
            if not self.function[i]:
                i += 1
            elif text == "static_assert":
                i = self.partner[i + 1]
            elif text == "constexpr":
                while self.tokens[i].text != ";":
                    i += 1
            else:
                self._at(i)
                i += 1
        seen: Counter[tuple[str, ...]] = Counter()
        numbered = []
        for candidate in self.found:
            seen[candidate.key] += 1
            numbered.append(replace(candidate, ordinal=seen[candidate.key]))
        return numbered

    def _partners(self) -> dict[int, int]:
        """From each bracket to the one it goes with."""
        partner, open_ones = {}, []
        for i, token in enumerate(self.tokens):
            if token.text in CLOSING:
                open_ones.append(i)
            elif token.text in CLOSING.values():
                j = open_ones.pop()
                partner[i], partner[j] = j, i
        return partner

    def _functions(self) -> list[str]:
        """Of each token, the function in whose body it stands, or nothing."""
        function, i = [""] * len(self.tokens), 0
        while i < len(self.tokens):
            if self.tokens[i].text == "{" and (begin := self._parameters_before(i)) is not None:
                for k in range(i, self.partner[i]):
                    function[k] = self.tokens[begin - 1].text
                i = self.partner[i]
            i += 1
        return function

    def _parameters_before(self, brace: int) -> int | None:
        j = brace - 1
        while j >= 0 and self.tokens[j].text in ("const", "noexcept", "override"):
            j -= 1
        if j < 0 or self.tokens[j].text != ")":
            return None
        begin = self.partner[j]
        while self.tokens[begin - 2].text in (":", ",") and self.tokens[begin - 3].text == ")":  # a constructor's
            begin = self.partner[begin - 3]
        return begin

    def _is_binary(self, i: int) -> bool:
        token = self.tokens[i]
        return self.source[token.begin - 1].isspace() and self.source[token.end].isspace()

    def _add(self, kind: str, begin: int, end: int, new: str) -> None:
        """Replaces the tokens [begin, end) by `new`."""
        first, last = self.tokens[begin], self.tokens[end - 1]
        before = " ".join(token.text for token in self.tokens[max(begin - 6, 0) : begin])
        after = " ".join(token.text for token in self.tokens[end : end + 6])
        old = " ".join(self.source[first.begin : last.end].split())
        change = f"{before} [{old} -> {new}] {after}"
        line = self.source.count("\n", 0, first.begin) + 1
        function = self.function[begin]
        self.found.append(Candidate(self.name, function, kind, change, 0, line, first.begin, last.end, new))

    def _source(self, begin: int, end: int) -> str:
        return self.source[self.tokens[begin].begin : self.tokens[end - 1].end]

    def _at(self, i: int) -> None:
        token = self.tokens[i]
        if token.kind == "sign" and token.text in BINDS.keys() | SWAPPED_OPERATOR.keys() and self._is_binary(i):
            self._at_operator(i)
        elif token.text in BARRIERS | WARP_INTRINSICS | ATOMICS | {"LAUNCH"} and self.tokens[i + 1].text == "(":
            self._at_call(i)
        elif token.text in SWAPPED_NAME and self.tokens[i + 1].text not in ("(", "=", ";"):  # no call, no declaration
            self._add("swap", i, i + 1, SWAPPED_NAME[token.text])
        elif token.text == "[" and self.tokens[i + 1].text in "0123" and self.tokens[i + 2].text == "]":
            if i > 0 and "stride" in self.tokens[i - 1].text:
                digit = int(self.tokens[i + 1].text)
                self._add("swap", i + 1, i + 2, str(digit - 1 if digit > 0 else 1))
        elif token.text == "for" and self.tokens[i + 1].text == "(":
            self._at_loop(i + 1)

    def _at_operator(self, i: int) -> None:
        text = self.tokens[i].text
        for new in OFF_BY_ONE.get(text, ()):
            self._add("bound", i, i + 1, new)
        if text in SWAPPED_COMPARISON:
            self._add("comparison", i, i + 1, SWAPPED_COMPARISON[text])
        if text in SWAPPED_OPERATOR:
            self._add("shift" if text in ("<<", ">>") else "operator", i, i + 1, SWAPPED_OPERATOR[text])
        if text in ("<<", ">>"):
            self._add("shift", i, i + 1, f"{text} 1 +")
        if text in ("+", "-", "*"):
            begin, end = self._left_of(i), self._right_of(i)
            self._add("term", i, end, "")
            if text != "-":
                self._add("term", begin, i + 1, "")
        if text == "&" and self.tokens[i + 1].kind == "number":
            self._add("mask", i + 1, i + 2, f"({self.tokens[i + 1].text} >> 1)")

    def _right_of(self, i: int) -> int:
        """One past the operator's right-hand term."""
        j = i + 1
        while self.tokens[j].text not in CLOSING.values():
            if j > i + 1 and self._ends_a_term(j, BINDS[self.tokens[i].text]):
                break
            j = self.partner[j] + 1 if self.tokens[j].text in CLOSING else j + 1
        return j

    def _left_of(self, i: int) -> int:
        """The first token of the operator's left-hand term."""
        j = i - 1
        while self.tokens[j].text not in CLOSING:
            if self._ends_a_term(j, BINDS[self.tokens[i].text]):
                break
            j = self.partner[j] - 1 if self.tokens[j].text in CLOSING.values() else j - 1
        return j + 1

    def _ends_a_term(self, j: int, binds: int) -> bool:
        text = self.tokens[j].text
        if text in (",", ";", "return", ":"):
            return True
        return text in BINDS and self._is_binary(j) and BINDS[text] <= binds

    def _at_call(self, i: int) -> None:
        name, end = self.tokens[i].text, self.partner[i + 1]
        arguments = self._arguments(i + 1)
        if name in BARRIERS:
            value = self._source(*arguments[0]) if arguments and name != "__syncwarp" else "(void)0"
            self._add("barrier", i, end + 1, f"({value})" if value != "(void)0" else value)
        elif name in WARP_INTRINSICS:
            mask = self._source(*arguments[0])
            self._add("mask", *arguments[0], f"({mask} >> 1)")
        elif name in ATOMICS:
            self._add("atomic", i, i + 1, f"torn_{name}")
        else:  # LAUNCH(kernel, grid, block, bytes, ...): a grid or a block too small by one, a byte too few
            for argument in arguments[1:4]:
                parts = [argument]
                if self.tokens[argument[0]].text == "dim3":
                    parts = self._arguments(argument[0] + 1)
                for begin, after in parts:
                    if self._source(begin, after) not in ("0", "1"):
                        self._add("launch", begin, after, f"({self._source(begin, after)}) - 1")

    def _arguments(self, bracket: int) -> list[tuple[int, int]]:
        spans, begin, j = [], bracket + 1, bracket + 1
        while j < self.partner[bracket]:
            if self.tokens[j].text == ",":
                spans.append((begin, j))
                begin = j + 1
            j = self.partner[j] + 1 if self.tokens[j].text in CLOSING else j + 1
        return [*spans, (begin, j)] if j > begin else spans

    def _at_loop(self, bracket: int) -> None:
        """A loop that starts one late."""
        j = bracket + 1
        while j < self.partner[bracket] and self.tokens[j].text not in (";", ":"):
            if self.tokens[j].text == "=":
                self._add("bound", j, j + 1, "= 1 +")
            j += 1
