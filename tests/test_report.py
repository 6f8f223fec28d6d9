"""The report as a file: what it holds, that it is whole or not there, and that memory does not grow with it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from films import StandIn, write_film
from test_run import resident

from yolact import mask
from yolact.cli import main
from yolact.draw import colour
from yolact.errors import UserError
from yolact.instances import Instances
from yolact.pictures import write_picture
from yolact.report import Report, write
from yolact.run import run

HOSTILE = "</script x><!--<script </script><script>alert(1)</script><!--\"'&amp;${x}\u2028.jpg"


class Parser(HTMLParser):
    """The elements of a page: script and style with their content."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        self.elements.append((tag, dict(attrs)))
        self.texts.append("")

        self.inside = True

    def handle_endtag(self, tag: str) -> None:
        """One ends."""
        self.inside = False

    def handle_data(self, data: str) -> None:
        """Text, which belongs to the newest element: those that are asked for have no others inside."""
        if self.inside:
            self.texts[-1] += data

    def contents(self, tag: str, **attributes: str) -> list[str]:
        """The text of the elements that have these attributes."""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        found = zip(self.elements, self.texts, strict=True)
        return [text for (name, has), text in found if name == tag and has.items() >= wanted.items()]


def parsed(path: Path) -> Parser:
    return Parser(path.read_text("utf-8"))


def pictures(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in parsed(path).contents("script", class_="picture")]


def jpegs(path: Path) -> list[np.ndarray]:
    """The pictures of a page, RGB."""
    texts = parsed(path).contents("script", type="image/jpeg")
    arrays = [np.frombuffer(base64.b64decode(text), np.uint8) for text in texts]
    return [cv2.imdecode(array, cv2.IMREAD_COLOR)[..., ::-1] for array in arrays]


def found_in(*pictures: np.ndarray) -> Iterator[Instances]:
    return StandIn().stream(pictures)


def test_a_page_holds_pictures_and_instances(tmp_path: Path) -> None:
    given = np.zeros((40, 60, 3), np.uint8)
    given[:, 30:] = 200, 30, 90
    (expected,) = found_in(given)
    write(found_in(given, given[:20]), tmp_path / "r.html", names=["a.jpg", "b.jpg"], title="Things")
    page = parsed(tmp_path / "r.html")
    assert page.contents("title") == ["Things"]
    assert json.loads(page.contents("script", class_="classes")[0]) == [
        {"name": "thing", "colour": f"#{bytes(colour(0)).hex()}"}
    ]
    first, second = pictures(tmp_path / "r.html")
    assert (first["name"], first["size"], second["name"], second["size"]) == ("a.jpg", [40, 60], "b.jpg", [20, 60])
    (instance,) = first["instances"]
    assert instance == {
        "label": 0,
        "score": 0.9,
        "box": [15, 10, 30, 20],
        "area": int(mask.area(expected.rles[0])),
        "counts": expected.rles[0]["counts"],
    }
    assert first["truths"] is None
    assert np.abs(jpegs(tmp_path / "r.html")[0].astype(int) - given).mean() < 3


def test_pictures_are_made_smaller_and_never_larger(tmp_path: Path) -> None:
    given = np.zeros((40, 100, 3), np.uint8), np.zeros((20, 10, 3), np.uint8), np.zeros((1, 90, 3), np.uint8)
    write(found_in(*given), tmp_path / "r.html", side=50)
    assert [picture.shape[:2] for picture in jpegs(tmp_path / "r.html")] == [(20, 50), (20, 10), (1, 50)]
    assert [picture["size"] for picture in pictures(tmp_path / "r.html")] == [[40, 100], [20, 10], [1, 90]]


def test_the_policy_allows_the_page_alone(tmp_path: Path) -> None:
    write([], tmp_path / "r.html")
    page = parsed(tmp_path / "r.html")
    (policy,) = (attributes["content"] for name, attributes in page.elements if "http-equiv" in attributes)
    assert policy is not None
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert allowed["default-src"] == allowed["base-uri"] == allowed["form-action"] == "'none'"
    assert allowed["img-src"] == "data:"

    def hashes(texts: Iterable[str]) -> list[str]:
        return [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in texts]

    scripts = [text for (tag, has), text in zip(page.elements, page.texts, strict=True) if tag == "script" and not has]
    assert len(scripts) == 3
    assert allowed["script-src"].split() == hashes(scripts)
    assert allowed["style-src"].split() == hashes(page.contents("style"))
    attributes = {name for _, has in page.elements for name in has}
    assert not {"href", "src", "style", "srcset", "action"} & attributes
    assert not [name for name in attributes if name.startswith("on")]


def test_names_stay_text(tmp_path: Path) -> None:
    plain, hostile = tmp_path / "plain.html", tmp_path / "hostile.html"
    for path, name in ((plain, "name"), (hostile, HOSTILE + "\udc80")):
        with Report(path, title=name).writing() as page:
            result = {"category_id": 3, "score": 0.5, "bbox": [1, 2, 3, 4]}
            page.add(name, np.zeros((9, 9, 3), np.uint8), [result], {3: name})
    assert parsed(hostile).elements[6:] == parsed(plain).elements[6:], "no element more"
    assert pictures(hostile)[0]["name"] == HOSTILE + "\udc80"
    assert json.loads(parsed(hostile).contents("script", class_="classes")[0])[0]["name"] == HOSTILE + "\udc80"
    assert parsed(hostile).contents("title") == [HOSTILE + "?"]


def test_results_may_lack_mask_or_box(tmp_path: Path) -> None:
    disc = np.zeros((30, 40), np.uint8)
    cv2.circle(disc, (20, 12), 6, 1, -1)
    rle = mask.encode(disc)
    results = [
        {"category_id": 1, "score": 0.5, "bbox": [1.25, 2, 3, 4]},
        {"category_id": 9, "score": 1, "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()}},
    ]
    with Report(tmp_path / "r.html").writing() as page:
        page.add("a", np.zeros((30, 40, 3), np.uint8), results, {1: "one", 5: "five", 9: "nine"}, truths=results[1:])
    (picture,) = pictures(tmp_path / "r.html")
    box_alone, mask_alone = picture["instances"]
    assert box_alone == {"label": 0, "score": 0.5, "box": [1.2, 2, 3, 4], "area": 12, "counts": None}
    assert mask_alone["box"] == [14, 6, 13, 13]
    assert mask_alone["area"] == disc.sum()
    assert picture["truths"] == [{key: value for key, value in mask_alone.items() if key != "score"}]
    classes = json.loads(parsed(tmp_path / "r.html").contents("script", class_="classes")[0])
    assert classes == [
        {"name": "one", "colour": f"#{bytes(colour(0)).hex()}"},
        {"name": "nine", "colour": f"#{bytes(colour(2)).hex()}"},
    ]


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c"]])
def test_write_rejects_other_numbers_of_names(tmp_path: Path, names: list[str]) -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="names must hold one for each result"):
        write(found_in(picture, picture), tmp_path / "r.html", names=names)
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_no_page_can_hold_are_rejected(tmp_path: Path) -> None:
    result = {"category_id": 1, "score": float("nan"), "bbox": [1, 2, 3, 4]}
    with pytest.raises(ValueError, match="JSON"), Report(tmp_path / "r.html").writing() as page:
        page.add("a", np.zeros((9, 9, 3), np.uint8), [result], {1: "thing"})
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere/r\.html: cannot be written"):
        write([], tmp_path / "nowhere" / "r.html")


def test_predict_writes_a_report_as_results_come(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = [tmp_path / name for name in ("2.png", "10.png")]
    for source in sources:
        write_picture(source, np.full((48, 64, 3), 90, np.uint8))
    film = write_film(tmp_path / "film.avi", 3, codec="MJPG")
    report = Report(tmp_path / "new" / "r.html", title="Things", side=32)
    outcome = run(StandIn(), [sources[0], film, sources[1]], None, None, report, batch_size=2)  # type: ignore[arg-type]
    assert (outcome.pictures, outcome.frames) == (2, 3)
    assert [picture["name"] for picture in pictures(report.path)] == ["2.png", "10.png"], "the film is left out"
    assert [picture.shape for picture in jpegs(report.path)] == [(24, 32, 3)] * 2
    with pytest.raises(UserError, match=r"2\.png: is a file of the input"):
        run(StandIn(), sources, None, None, Report(sources[0]), batch_size=1)  # type: ignore[arg-type]


def test_a_run_that_fails_leaves_no_report(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    write_picture(picture, np.zeros((48, 64, 3), np.uint8))

    class Failing(StandIn):
        def stream(self, pictures: Iterable[np.ndarray], **options: Any) -> Iterator[Instances]:
            for found in super().stream(pictures, **options):
                if self.taken == 3:
                    raise RuntimeError("out of memory")
                yield found

    report = Report(tmp_path / "r.html")
    with pytest.raises(RuntimeError, match="out of memory"):
        run(Failing(), [picture] * 5, None, None, report, batch_size=1)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == [picture]


def test_predict_says_that_videos_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_film(Path("film.avi"), 2, codec="MJPG")
    write_picture("a.png", np.zeros((48, 64, 3), np.uint8))
    assert main(["predict", "film.avi", "--report", "r.html"]) == 2
    message = "yolact: r.html: a report shows pictures, and among the sources there is none\n"
    assert capsys.readouterr().err == message
    monkeypatch.setattr("yolact.loading.load", lambda *_: Quiet())
    assert main(["predict", "film.avi", "a.png", "--report", "r.html"]) == 0
    out, err = capsys.readouterr()
    assert err == "yolact: r.html: shows pictures alone, videos are left out\n"
    assert re.fullmatch(r"3 instances in 1 pictures and 2 frames, [\d.]+ a second: r\.html\n", out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "film.avi", "r.html"]


class Quiet(StandIn):
    """A model for the command line."""

    def choose_threads(self) -> None:
        """There are none."""


def test_memory_stays_flat_however_long_the_page(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    memory = {}

    def pictures() -> Iterator[np.ndarray]:
        for number in range(251):
            if number in (50, 250):
                memory[number] = resident()
            yield noise

    write(StandIn().stream(pictures()), tmp_path / "r.html")
    assert (tmp_path / "r.html").stat().st_size > 30 * 2**20
    assert memory[250] - memory[50] < 5 * 2**20
