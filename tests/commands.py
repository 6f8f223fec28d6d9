"""What tests of the command line look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from yolact.cli import main


def everything(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def fault(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must fail by the rules, and return its one line."""
    assert main([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("yolact: ")
    return err.removeprefix("yolact: ").strip()
