"""A file is written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from yolact.errors import UserError
from yolact.files import replacing


def write(path: Path, data: bytes) -> None:
    with replacing(path) as file:
        file.write(data)


def test_keeps_the_old_one_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write(path, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match=r"a\.json: cannot be written \(No space left"):
        write(path, b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]
    assert path.read_bytes() == b"old"


def test_keeps_the_old_one_when_its_writer_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write(path, b"old")

    def write_half() -> None:
        with replacing(path) as file:
            file.write(b"ne")
            raise KeyError

    with pytest.raises(KeyError):
        write_half()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]
    assert path.read_bytes() == b"old"


def test_follows_links(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write(tmp_path / "link", b"data")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"data"


def test_writes_to_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write(tmp_path / "pipe", b"data")
    assert os.read(reader, 9) == b"data"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()


def test_keeps_the_permissions(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write(path, b"old")
    assert path.stat().st_mode & 0o777 == 0o666 & ~current_umask()
    path.chmod(0o600)
    write(path, b"new")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o600)


def current_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with replacing(path) as first:
        first.write(b"first")
        write(path, b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_names_as_long_as_names_may_be(tmp_path: Path) -> None:
    write(tmp_path / ("a" * 255), b"data")
    assert (tmp_path / ("a" * 255)).read_bytes() == b"data"
