"""The report in a real browser, without a window: what is seen is what the run lengths say, and nothing is fetched."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import skip_or_fail
from masks import adversarial_masks, random_mask

from yolact import mask
from yolact.report import Report

try:
    from playwright import sync_api as playwright
except ImportError:
    skip_or_fail("browser", "playwright is not installed")

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
HOSTILE = (
    '</script x><!--<script </script><script>document.title=1</script><img src=x onerror="document.title=1">\'"&amp;'
)

Open = Callable[..., Any]  # the page of a report


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser of this machine's."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        skip_or_fail("browser", f"there is none of {', '.join(BROWSERS)}")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=path)
        yield running
        running.close()


@pytest.fixture
def open_report(browser: Any) -> Iterator[Open]:
    """Open a file in a tab of its own; afterwards: nothing was asked of anybody, and nothing went wrong."""
    faults: list[str] = []
    requests: list[str] = []
    opened: set[str] = set()
    contexts = []

    def open_file(path: Path, **options: Any) -> Any:
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 800}, **options))
        opened.add(path.as_uri())
        page = contexts[-1].new_page()
        page.set_default_timeout(5_000)
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: faults.append(dialog.message))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert faults == []
    assert {url for url in requests if not url.startswith("data:image/jpeg;")} == opened, "nothing else is asked for"


def result(pixels: np.ndarray, category: int = 1, score: float = 0.5) -> dict[str, Any]:
    """A mask as a COCO result."""
    rle = mask.encode(np.asfortranarray(pixels))
    segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
    return {"category_id": category, "score": score, "bbox": mask.toBbox(rle).tolist(), "segmentation": segmentation}


def boxes(*places: tuple[int, int, int, int], size: tuple[int, int] = (60, 80)) -> list[np.ndarray]:
    """Masks that are boxes: x, y, width, height."""
    masks = [np.zeros(size, bool) for _ in places]
    for pixels, (x, y, width, height) in zip(masks, places, strict=True):
        pixels[y : y + height, x : x + width] = True
    return masks


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Three pictures: a cat and a dog, a dog, nothing; the truth is another cat in the first."""
    cat, dog, other = boxes((5, 5, 20, 30), (40, 10, 30, 40), (2, 40, 10, 15))
    picture = np.full((60, 80, 3), 128, np.uint8)
    names = {17: "cat", 18: "dog"}
    with Report(tmp_path / "r.html", title="Pets").writing() as page:
        found = [result(cat, 17, 0.9), result(dog, 18, 0.4)]
        page.add("first.jpg", picture, found, names, [{**result(other, 17), "score": None}])
        page.add("second.jpg", picture, [result(dog, 18, 0.7)], names, [])
        page.add("third.jpg", picture, [], names, [])
    return tmp_path / "r.html"


def seen(page: Any, canvas: str) -> np.ndarray:
    """The pixels of a canvas, [H, W, 4] RGBA; of one that is hidden, none."""
    url = page.locator(canvas).evaluate("canvas => canvas.hidden ? '' : canvas.toDataURL()")
    if not url:
        return np.zeros((0, 0, 4), np.uint8)
    png = np.frombuffer(base64.b64decode(url.split(",")[1]), np.uint8)
    return cv2.cvtColor(cv2.imdecode(png, cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA)


def covered(page: Any, canvas: str) -> np.ndarray:
    """Where a canvas has colour, [H, W] bool."""
    return seen(page, canvas)[..., 3] > 0


def on_a_grid(page: Any, rle: dict[str, Any], *sizes: tuple[int, int]) -> list[np.ndarray]:
    """What `fillMask` makes of run lengths on planes of some sizes, [H, W] bool each."""
    texts = page.evaluate(
        """([counts, full, sizes]) => sizes.map(([height, width]) => {
            const plane = new Uint16Array(height * width);
            fillMask(plane, [height, width], runEnds(counts), full, 1);
            return plane.join("");
        })""",
        [rle["counts"], rle["size"], sizes],
    )
    planes = [np.frombuffer(text.encode(), np.uint8) == ord("1") for text in texts]
    return [plane.reshape(size, order="F") for plane, size in zip(planes, sizes, strict=True)]


def sampled(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The pixels under the middles of a coarser grid's."""
    rows, columns = (((np.arange(n) + 0.5) * full / n).astype(int) for n, full in zip(size, pixels.shape, strict=True))
    return pixels[rows][:, columns]


def test_masks_on_the_page_are_those_of_the_run_lengths(tmp_path: Path, open_report: Open) -> None:
    rng = np.random.default_rng(0)
    masks = [np.pad(random_mask(rng), ((0, 150), (0, 150)))[:150, :140] for _ in range(4)]
    masks += [np.ones((150, 140), bool), np.eye(150, 140, dtype=bool)]
    found = [result(pixels, category, 0.5) for category, pixels in enumerate(masks)]
    with Report(tmp_path / "r.html", side=50).writing() as page:  # the picture is smaller: its masks are not
        page.add("a", np.zeros((150, 140, 3), np.uint8), found, dict(enumerate("abcdef")))
    page = open_report(tmp_path / "r.html")
    page.locator("#gallery button").click()
    switches = page.locator("#instances input")
    np.testing.assert_array_equal(covered(page, "#stage .masks"), np.logical_or.reduce(masks))
    for n in range(len(masks)):
        switches.nth(n).uncheck()
    assert covered(page, "#stage .masks").size == 0
    for n, pixels in enumerate(masks):
        switches.nth(n).check()
        np.testing.assert_array_equal(covered(page, "#stage .masks"), pixels)
        np.testing.assert_array_equal(pixels, mask.decode(found[n]["segmentation"]))
        switches.nth(n).uncheck()


def test_run_lengths_on_coarser_grids(small: Path, open_report: Open) -> None:
    page = open_report(small)
    rng = np.random.default_rng(1)
    for pixels in [*(pixels for pixels in adversarial_masks() if pixels.size), *(random_mask(rng) for _ in range(30))]:
        height, width = pixels.shape
        sizes = (height, width), ((height + 1) // 2, (width + 1) // 2), (max(1, height // 3), max(1, width - 1))
        for plane, size in zip(on_a_grid(page, result(pixels)["segmentation"], *sizes), sizes, strict=True):
            np.testing.assert_array_equal(plane, sampled(pixels, size))


def test_counts_beyond_sixteen_bits(small: Path, open_report: Open) -> None:
    pixels = np.zeros((3000, 2000), bool)
    pixels[5:2990, 700:1400] = True
    pixels[:, 1500:1800] = True
    (plane,) = on_a_grid(open_report(small), result(pixels)["segmentation"], (300, 200))
    np.testing.assert_array_equal(plane, sampled(pixels, (300, 200)))


def test_the_gallery_shows_masks_and_their_colours(small: Path, open_report: Open) -> None:
    page = open_report(small)
    scene = covered(page, "#gallery li:first-child .masks")
    cat, dog = boxes((5, 5, 20, 30), (40, 10, 30, 40))
    np.testing.assert_array_equal(scene, sampled(cat | dog, scene.shape))
    swatch = page.locator("#classes tr", has_text="dog").locator(".swatch")
    colour = [int(n) for n in re.findall(r"\d+", swatch.evaluate("swatch => swatch.style.background"))]
    page.locator("#gallery button").first.click()
    middle, border = seen(page, "#stage .masks")[30, [55, 40]].astype(int)
    assert np.abs(middle[:3] - colour[:3]).max() <= 2, "as drawn at half strength, but for rounding"
    assert middle[3] == 128
    assert (border[:3] > middle[:3]).all()
    assert border[3] == 230, "its border is lighter and stronger"
    page.locator("#instances button").last.click()
    assert seen(page, "#stage .masks")[[30, 20], [55, 10], 3].tolist() == [179, 45], "what is chosen stands out"


def test_classes_and_scores_filter(small: Path, open_report: Open) -> None:
    page = open_report(small)
    counts = page.locator("#gallery .count")
    rows = page.locator("#classes tr")
    assert page.locator("#summary").inner_text() == "3 pictures · 3 instances"
    assert [row.split() for row in rows.all_inner_texts()] == [
        ["dog", "2", "2", "0.55", "0"],
        ["cat", "1", "1", "0.90", "1"],
    ]
    page.get_by_label("dog").uncheck()
    assert counts.all_inner_texts() == ["1", "0", "0"]
    assert rows.first.inner_text().split() == ["dog", "0/2", "0", "0.55", "0"]
    scene = covered(page, "#gallery li:first-child .masks")
    np.testing.assert_array_equal(scene, sampled(boxes((5, 5, 20, 30))[0], scene.shape))
    page.get_by_label("Hide pictures with nothing to show").check()
    assert page.locator("#gallery li:visible .name").all_inner_texts() == ["first.jpg"]
    assert page.locator("#summary").inner_text() == "1 picture of 3 · 1 instance of 3"
    page.get_by_role("button", name="All").click()
    page.locator("#score").fill("0.4")
    playwright.expect(page.locator("#score-value")).to_have_text("0.40")
    playwright.expect(page.locator("#summary")).to_have_text("2 pictures of 3 · 3 instances")
    page.locator("#score").fill("0.5")
    playwright.expect(page.locator("#summary")).to_have_text("2 pictures of 3 · 2 instances of 3")
    assert page.locator("#score-value").inner_text() == "0.50"
    page.locator("#score").press("End")
    playwright.expect(page.locator("#summary")).to_have_text("0 pictures of 3 · 0 instances of 3")
    page.locator("#score").press("Home")
    page.get_by_role("button", name="None").click()
    playwright.expect(page.locator("#summary")).to_have_text("0 pictures of 3 · 0 instances of 3")
    page.get_by_role("button", name="All").click()
    page.get_by_label("Find a file").fill("SECOND")
    playwright.expect(page.locator("#summary")).to_have_text("1 picture of 3 · 3 instances")


def test_layers_are_switched(small: Path, open_report: Open) -> None:
    page = open_report(small)
    page.locator("#gallery button").first.click()
    other = boxes((2, 40, 10, 15))[0]
    assert covered(page, "#stage .truth").size == 0
    page.get_by_label("Truth").check(force=True)
    truth = covered(page, "#stage .truth")
    assert 0 < (truth & other).sum() == truth.sum() < other.sum(), "striped"
    page.get_by_label("cat", exact=True).uncheck()
    assert covered(page, "#stage .truth").size == 0
    page.get_by_label("cat", exact=True).check()
    page.get_by_label("Masks", exact=True).uncheck(force=True)
    assert covered(page, "#stage .masks").size == 0
    assert page.locator("#stage .box").count() == 0
    page.get_by_label("Boxes").check(force=True)
    assert page.locator("#stage .box:not(.truth)").count() == 2
    frame, box = page.locator("#stage .frame").bounding_box(), page.locator("#stage .box").last.bounding_box()
    share = frame["width"] / 80
    assert box["x"] - frame["x"] == pytest.approx(2 * share, abs=1)
    assert box["y"] - frame["y"] == pytest.approx(40 * share, abs=1)
    assert (box["width"], box["height"]) == pytest.approx((10 * share, 15 * share), abs=1)
    assert page.locator("#stage .box span").count() == 0
    page.get_by_label("Labels").check(force=True)
    assert page.locator("#stage .box span").all_inner_texts() == ["dog 0.40", "cat 0.90", "cat"]


def test_an_instance_under_the_pointer_is_told(small: Path, open_report: Open) -> None:
    page = open_report(small)
    page.locator("#gallery button").first.click()
    frame, about = page.locator("#stage .frame"), page.locator("#about")
    share = frame.bounding_box()["width"] / 80
    frame.hover(position={"x": 15 * share, "y": 20 * share})
    assert about.inner_text() == "cat, score 0.900, box 5, 5, 20 × 30, area 600 px"
    assert page.locator("#instances .active").inner_text().split() == ["cat", "0.90"]
    frame.hover(position={"x": 32 * share, "y": 20 * share})
    assert about.inner_text().startswith("80 × 60 pixels")
    frame.click(position={"x": 50 * share, "y": 20 * share})
    frame.hover(position={"x": 32 * share, "y": 20 * share})
    assert about.inner_text().startswith("dog, score 0.400, box 40, 10, 30 × 40"), "a click keeps it"
    page.get_by_label("Masks", exact=True).uncheck(force=True)
    frame.hover(position={"x": 6 * share, "y": 6 * share})
    assert about.inner_text().startswith("cat"), "by its box, where no mask is shown"
    page.locator("#instances button").last.hover()
    assert about.inner_text().startswith("dog")
    page.get_by_label("dog", exact=True).uncheck()
    assert about.inner_text().startswith("80 × 60 pixels"), "what is filtered out is chosen no longer"


def test_the_smallest_of_boxes_is_under_the_pointer(tmp_path: Path, open_report: Open) -> None:
    with Report(tmp_path / "r.html").writing() as page:
        found = [
            {"category_id": id, "score": 0.5, "bbox": box} for id, box in ((1, [30, 20, 20, 20]), (2, [0, 0, 80, 60]))
        ]
        page.add("a", np.zeros((60, 80, 3), np.uint8), found, {1: "small", 2: "large"})
    page = open_report(tmp_path / "r.html")
    page.locator("#gallery button").click()
    frame = page.locator("#stage .frame")
    share = frame.bounding_box()["width"] / 80
    for x, name in ((40, "small"), (10, "large")):
        frame.hover(position={"x": x * share, "y": 30 * share})
        assert page.locator("#about").inner_text().startswith(name)


def test_the_keyboard_does_it_all(small: Path, open_report: Open) -> None:
    page = open_report(small)

    def focused() -> str:
        return page.evaluate("document.activeElement.innerText")

    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert not page.get_by_label("Masks", exact=True).is_checked()
    page.keyboard.press("m")
    assert page.get_by_label("Masks", exact=True).is_checked()
    page.keyboard.press("Control+m")
    assert page.get_by_label("Masks", exact=True).is_checked()
    page.get_by_label("Find a file").press("m")
    assert page.get_by_label("Masks", exact=True).is_checked()
    page.get_by_label("Find a file").fill("")
    for _ in range(30):
        page.keyboard.press("Tab")
        if focused().startswith("second.jpg"):
            break
    page.keyboard.press("Enter")
    assert page.locator("#name").inner_text() == "second.jpg"
    assert focused() == "←"
    assert page.locator("#position").inner_text() == "2 of 3"
    page.keyboard.press("ArrowLeft")
    assert page.locator("#name").inner_text() == "first.jpg"
    page.keyboard.press("ArrowLeft")
    assert page.locator("#name").inner_text() == "first.jpg"
    for _ in range(30):
        page.keyboard.press("Tab")
        if focused().startswith("dog"):
            break
    assert page.locator("#about").inner_text().startswith("dog"), "what has the focus is shown"
    page.keyboard.press("Enter")
    assert page.locator("#instances [aria-pressed=true]").inner_text().split() == ["dog", "0.40"]
    page.keyboard.press("Escape")
    playwright.expect(page.locator("#gallery")).to_be_visible()
    assert focused().startswith("first.jpg"), "back where one came from"


def test_hostile_names_are_only_text(tmp_path: Path, open_report: Open) -> None:
    with Report(tmp_path / "r.html", title=HOSTILE).writing() as page:
        page.add(HOSTILE, np.zeros((60, 80, 3), np.uint8), [result(boxes((5, 5, 20, 30))[0], 3)], {3: HOSTILE})
    page = open_report(tmp_path / "r.html")
    page.get_by_label("Labels").check(force=True)
    assert page.title() == HOSTILE
    assert page.locator("h1").inner_text() == HOSTILE
    assert page.locator("#gallery .name").inner_text() == HOSTILE
    assert page.locator("#gallery .box span").inner_text() == f"{HOSTILE} 0.50"
    assert page.locator("#classes .name").inner_text() == HOSTILE
    page.locator("#gallery button").click()
    assert page.locator("#name").inner_text() == HOSTILE
    assert page.locator("#instances .name").inner_text() == HOSTILE
    assert page.locator("script:not([type])").count() == 3
    assert page.locator("img[onerror]").count() == 0


def test_the_policy_holds(small: Path, browser: Any) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(small.as_uri())
    refused: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.on("request", lambda request: requests.append(request.url))
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "document.title = 'run'";
            document.body.append(script);
            const image = new Image();
            image.src = "http://127.0.0.1:9/a.png";
        }"""
    )
    assert page.title() == "Pets"
    assert page.evaluate("fetch('http://127.0.0.1:9/').catch(() => 'refused')") == "refused"
    assert len(refused) >= 3
    assert all("Content Security Policy" in line for line in refused)
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_themes_on_a_phone(small: Path, open_report: Open, scheme: str) -> None:
    page = open_report(small, color_scheme=scheme, has_touch=True)
    page.set_viewport_size({"width": 360, "height": 700})
    page.reload()
    background, ink = page.evaluate(
        "[getComputedStyle(document.documentElement).backgroundColor, getComputedStyle(document.body).color]"
    )
    light = [sum(map(int, re.findall(r"\d+", value)[:3])) / 3 for value in (background, ink)]
    assert light[0] > 200 > 60 > light[1] if scheme == "light" else light[0] < 60 < 200 < light[1]
    assert not page.locator("#score").is_visible(), "the filters are folded"
    page.locator("#filters > summary").tap()
    assert page.locator("#score").is_visible()
    wide = "document.documentElement.scrollWidth > innerWidth"
    assert not page.evaluate(wide)
    page.locator("#gallery button").first.tap()
    page.locator("#stage .frame").tap(position={"x": 80, "y": 80})
    assert page.locator("#about").inner_text().startswith("cat")
    assert not page.evaluate(wide)


@pytest.mark.parametrize("width", [360, 1280])
def test_a_long_name_makes_nothing_wider(tmp_path: Path, open_report: Open, width: int) -> None:
    with Report(tmp_path / "r.html").writing() as report:
        for name in ("short.jpg", f"{'long' * 60}.jpg"):
            report.add(name, np.zeros((80, 40, 3), np.uint8), [], {})
    page = open_report(tmp_path / "r.html")
    page.set_viewport_size({"width": width, "height": 700})
    short, long = page.eval_on_selector_all("#gallery li", "cards => cards.map(card => card.clientWidth)")
    assert short == long
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")


def test_many_pictures_are_decoded_when_they_come_into_sight(tmp_path: Path, open_report: Open) -> None:
    picture, found = np.zeros((60, 80, 3), np.uint8), [result(boxes((5, 5, 20, 30))[0])]
    with Report(tmp_path / "r.html").writing() as page:
        for number in range(400):
            page.add(f"{number}.jpg", picture, found, {1: "thing"})
    page = open_report(tmp_path / "r.html")
    loaded = "[...document.querySelectorAll('#gallery img')].map((img, i) => img.src ? i : -1).filter(i => i >= 0)"
    page.wait_for_timeout(200)
    first = page.evaluate(loaded)
    assert 0 in first
    assert len(first) < 40
    page.locator("#gallery li").last.scroll_into_view_if_needed()
    page.wait_for_timeout(200)
    last = page.evaluate(loaded)
    assert 399 in last
    assert 0 not in last, "those that went out of sight are let go"
    assert len(last) < 40
    assert covered(page, "#gallery li:last-child .masks").any()
    page.locator("#gallery button").last.click()
    page.reload()
    assert page.locator("#name").inner_text() == "399.jpg", "its address leads there"
    page.go_back()
    playwright.expect(page.locator("#gallery")).to_be_visible()
    page.go_forward()
    playwright.expect(page.locator("#name")).to_have_text("399.jpg")
    page.keyboard.press("Escape")
    playwright.expect(page.locator("#gallery")).to_be_visible()
    page.locator("#gallery button").last.click()
    assert page.locator("#stage img").evaluate("img => img.decode().then(() => img.naturalWidth)") == 80
    source = page.locator("#stage img").get_attribute("src")
    assert base64.b64decode(source.split(",")[1])[:2] == b"\xff\xd8"
