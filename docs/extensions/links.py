"""After a build: every link inside the site leads somewhere, and no page loads anything from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

from sphinx.application import Sphinx
from sphinx.util.logging import getLogger

LOGGER = getLogger(__name__)


class Page(HTMLParser):
    """What a page can be pointed at by, what it points at, and what a browser loads to show it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = {"", "top"}
        self.targets: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id" and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                (self.targets if tag == "a" else self.loaded).append(value)


def faults(site: Path) -> Iterator[str]:
    """Each broken link of a built site, and each file that a page would fetch from a network."""
    pages = {path.resolve(): Page(path.read_text()) for path in site.rglob("*.html")}
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        for link in page.targets + page.loaded:
            if urlsplit(link).scheme or link.startswith("//"):
                if link in page.loaded:
                    yield f"{name}: loads {link}"
                continue
            target, anchor = urldefrag(link)
            there = (path.parent / unquote(urlsplit(target).path)).resolve() if target else path
            if not there.exists():
                yield f"{name}: {link} leads nowhere"
            elif there in pages and unquote(anchor) not in pages[there].anchors:
                yield f"{name}: {link} names no place of that page"


def check(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.name == "html":
        for fault in faults(Path(app.outdir)):
            LOGGER.warning(fault)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
