"""The report in a real browser: by the keyboard, on a phone, with hostile and long names, with many pictures."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_pages import Open, boxes, covered, playwright, result, write_pets

from yolact.report import Report

HOSTILE = (
    '</script x><!--<script </script><script>document.title=1</script><img src=x onerror="document.title=1">\'"&amp;'
)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write_pets(tmp_path / "r.html")


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
