"""Reading every kind of picture, refusing what is none, finding them and writing them whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from yolact.errors import NotEncodable, UserError
from yolact.pictures import find_sources, image_id, is_picture, make_folder, read_picture, write_picture


@pytest.fixture
def picture() -> np.ndarray:
    """A smooth picture of 40x60 whose three channels and four corners differ."""
    y, x = np.mgrid[0:40, 0:60]
    return np.stack([4 * x, 6 * y, 255 - 4 * x], axis=-1).astype(np.uint8)


def luminance(picture: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)


def test_read_picture_returns_rgb(tmp_path: Path, picture: np.ndarray) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), picture[:, :, ::-1])
    read = read_picture(tmp_path / "a.png")
    assert read.dtype == np.uint8
    assert read.flags.writeable
    np.testing.assert_array_equal(read, picture)


def test_read_picture_equals_opencv_on_jpeg(tmp_path: Path, picture: np.ndarray) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), picture[:, :, ::-1])
    np.testing.assert_array_equal(read_picture(tmp_path / "a.jpg"), cv2.imread(str(tmp_path / "a.jpg"))[:, :, ::-1])


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_read_picture_grey(tmp_path: Path, picture: np.ndarray, name: str) -> None:
    Image.fromarray(luminance(picture)).save(tmp_path / name, quality=100)
    read = read_picture(tmp_path / name)
    assert read.shape == picture.shape
    assert np.abs(read[:, :, 0].astype(int) - luminance(picture)).max() <= 1
    assert (read == read[:, :, :1]).all()


def test_read_picture_drops_alpha(tmp_path: Path, picture: np.ndarray) -> None:
    alpha = np.zeros(picture.shape[:2], np.uint8)
    Image.fromarray(np.dstack([picture, alpha])).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), picture)


def test_read_picture_palette(tmp_path: Path, picture: np.ndarray) -> None:
    palette = Image.fromarray(picture).convert("P")
    palette.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), np.array(palette.convert("RGB")))


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_read_picture_16_bit(tmp_path: Path, picture: np.ndarray, name: str, channels: int) -> None:
    eight = picture if channels == 3 else luminance(picture)
    cv2.imwrite(str(tmp_path / name), (eight[..., ::-1] if channels == 3 else eight).astype(np.uint16) * 257)
    expected = eight if channels == 3 else np.repeat(eight[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(read_picture(tmp_path / name), expected)


def test_read_picture_cmyk_jpeg(tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    assert np.abs(read_picture(tmp_path / "a.jpg").astype(int) - picture).max() < 16


@pytest.mark.parametrize("orientation", range(1, 9))
def test_read_picture_turns_upright(tmp_path: Path, picture: np.ndarray, orientation: int) -> None:
    upright = {
        1: lambda p: p,
        2: np.fliplr,
        3: lambda p: np.rot90(p, 2),
        4: np.flipud,
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p, -1),
        7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
        8: np.rot90,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), upright(picture))


@pytest.mark.parametrize("size", [(1, 1), (6000, 8000)])
def test_read_picture_of_extreme_size(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(tmp_path / "a.jpg")
    read = read_picture(tmp_path / "a.jpg")
    assert read.shape == (*size, 3)
    assert np.abs(read[0, 0].astype(int) - 90).max() <= 1


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tiff", "webp", "gif", "ppm"])
@pytest.mark.parametrize("kept", [0.0, 0.05, 0.5, 0.95])
def test_read_picture_rejects_truncated(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(UserError, match=rf"^{path}: .+") as error:
        read_picture(path)
    assert "\n" not in str(error.value)


def test_read_picture_rejects_damaged(tmp_path: Path, picture: np.ndarray) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(picture).save(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        read_picture(path)


def test_read_picture_rejects_floats(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(UserError, match=r"a\.tiff: .*floating-point"):
        read_picture(tmp_path / "a.tiff")


def test_read_picture_rejects_what_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("not a picture at all\n")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    for name, fault in {
        "text.jpg": "not a picture",
        "empty.jpg": "empty",
        "folder.jpg": "directory",
        "missing.jpg": "No such file",
    }.items():
        with pytest.raises(UserError, match=rf"{name}: .*{fault}"):
            read_picture(tmp_path / name)


@pytest.fixture
def unreadable(tmp_path: Path, picture: np.ndarray) -> None:
    write_picture(tmp_path / "a.png", picture)
    (tmp_path / "a.png").chmod(0)


@pytest.fixture
def no_privileges(tmp_path: Path) -> Iterator[None]:  # after tmp_path, which root makes
    """Root may read and write everything: be nobody for the length of a test."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


@pytest.mark.usefixtures("unreadable", "no_privileges")
def test_read_picture_rejects_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.png: Permission denied"):
        read_picture(tmp_path / "a.png")


@pytest.mark.usefixtures("no_privileges")
def test_make_folder_rejects_one_that_is_not_ours(tmp_path: Path) -> None:
    for folder in ("/", "/etc", "/etc/deeper", tmp_path / "deeper"):
        with pytest.raises(UserError, match=rf"^{folder}: the folder cannot be"):
            make_folder(folder)


def test_find_sources_in_natural_order_without_repeats(tmp_path: Path) -> None:
    for name in ("10.jpg", "9.PNG", "notes.txt", ".hidden.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "deeper.jpg").mkdir()
    nine, ten, notes = (tmp_path / name for name in ("9.PNG", "10.jpg", "notes.txt"))
    assert find_sources([tmp_path]) == [nine, ten]
    assert find_sources([str(tmp_path / "*")]) == [nine, ten]
    assert find_sources([ten, tmp_path, str(tmp_path / "*.jpg")]) == [ten, nine]
    assert find_sources([notes]) == [notes]


def test_find_sources_takes_a_name_that_looks_like_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "a[1].jpg").touch()
    assert find_sources([tmp_path / "a[1].jpg"]) == [tmp_path / "a[1].jpg"]


def test_find_sources_takes_videos_and_a_webcam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    film, picture = Path("a.MP4"), Path("b.png")
    film.touch()
    picture.touch()
    assert find_sources(["."]) == find_sources(["*"]) == [film, picture]
    assert [is_picture(source) for source in (film, picture, 0)] == [False, True, False]
    assert find_sources(["0"]) == [0]
    Path("0").touch()
    assert find_sources(["0", "a.MP4"]) == [Path("0"), film], "a file of this name comes first"
    with pytest.raises(UserError, match=r"^1: is a webcam, which has no end; give it alone"):
        find_sources(["a.MP4", "1"])


def test_find_sources_rejects_what_holds_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no pictures"):
        find_sources([tmp_path])
    with pytest.raises(UserError, match=r"\*\.jpg: no picture or video matches"):
        find_sources([tmp_path / "*.jpg"])
    with pytest.raises(UserError, match="a source is empty"):
        find_sources([""])
    with pytest.raises(UserError, match="File name too long"):
        find_sources(["a" * 300])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("000000005001.jpg", 5001), ("COCO_val2014_000000000042.jpg", 42), ("5001.jpg", 7), ("x000000005001.jpg", 7)],
)
def test_image_id(name: str, expected: int) -> None:
    assert image_id(Path("folder") / name, 7) == expected


def test_write_picture_round_trip(tmp_path: Path, picture: np.ndarray) -> None:
    write_picture(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), picture)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_write_picture_rejects_what_it_cannot_write(tmp_path: Path, picture: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"'\.xyz'"):
        write_picture(tmp_path / "a.xyz", picture)
    with pytest.raises(UserError, match="cannot be written"):
        write_picture(tmp_path / "missing" / "a.png", picture)
    assert list(tmp_path.iterdir()) == []


def test_more_pixels_than_pillow_takes_for_honest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.png"
    Image.new("L", (20, 20)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UserError, match=r"large\.png: more than 200 pixels; PIL.Image.MAX_IMAGE_PIXELS"):
        read_picture(path)


def test_opencv_stays_as_it_was(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    level, variables = cv2.utils.logging.getLogLevel(), dict(os.environ)
    with pytest.raises(NotEncodable):
        write_picture(tmp_path / "long.jpg", np.zeros((1, 70000, 3), np.uint8))
    assert cv2.utils.logging.getLogLevel() == level
    assert dict(os.environ) == variables
    assert capfd.readouterr().err == ""
