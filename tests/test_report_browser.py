"""The report in a real browser, without a window: what is seen is what the run lengths say, and nothing is fetched."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from masks import adversarial_masks, random_mask
from report_pages import Open, boxes, covered, on_a_grid, playwright, result, sampled, seen, write_pets

from yolact import mask
from yolact.report import Report


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write_pets(tmp_path / "r.html")


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
