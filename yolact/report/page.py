"""The page, written as its pictures come: what is kept of each is no more than the page has.

Masks travel as COCO's run lengths and are decoded by the page itself (`masks.js`). Whatever names hold, they are text
there: JSON is escaped for HTML, `page.js` never makes markup of it, and the page's policy lets no other script run, nor
anything be fetched.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, BinaryIO

import cv2
import numpy as np

from yolact import mask
from yolact.draw import colour
from yolact.files import replacing
from yolact.instances import Instances

SIDE = 1024  # pixels: the longer side of pictures on the page, unless told
_QUALITY = 85  # of JPEG

Record = dict[str, Any]  # a result or a truth in COCO's format


class Page:
    """A page that is being written; `Report.writing` makes one."""

    def __init__(self, file: BinaryIO, side: int) -> None:
        self._file = file
        self._side = side
        self._classes: dict[int, Record] = {}  # by category id: the position among the page's classes, name and colour

    def add(
        self,
        name: str,
        pixels: np.ndarray,  # [H, W, 3] uint8 RGB
        results: Iterable[Record],
        classes: Mapping[int, str],
        truths: Iterable[Record] | None = None,
    ) -> None:
        """Write a picture.

        Args:
            name: of its file.
            pixels: the whole picture; the page gets it no larger than it was opened for.
            results: in COCO's format: category_id, score, bbox (xywh, pixels), segmentation (compressed run lengths of
                the picture's size); one of the two last may be missing.
            classes: all names by category id, rising: their order makes the colours.
            truths: what there is to find, the same without scores; None: nobody knows.

        Raises:
            ValueError: a number that is not finite.
        """
        labels = {category: label for label, category in enumerate(classes)}

        def shape(record: Record) -> Record:
            category = record["category_id"]
            entry = {"name": classes[category], "colour": f"#{bytes(colour(labels[category])).hex()}"}
            known = self._classes.setdefault(category, {"place": len(self._classes), **entry})
            return {"label": known["place"], **_place(record)}

        height, width = pixels.shape[:2]
        content = {
            "name": name,
            "size": [height, width],
            "instances": [{**shape(record), "score": round(record["score"], 4)} for record in results],
            "truths": None if truths is None else [shape(record) for record in truths],
        }
        self._block("picture", content)
        self._file.write(b'<script type="image/jpeg">%b</script>\n' % base64.b64encode(_jpeg(pixels, self._side)))

    def finish(self) -> None:
        """Write what is only known at the end."""
        self._block("classes", [{"name": entry["name"], "colour": entry["colour"]} for entry in self._classes.values()])

    def _block(self, kind: str, content: Any) -> None:
        text = json.dumps(
            content, separators=(",", ":"), allow_nan=False
        )  # all ASCII; no < is left that could end the element
        text = text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")
        self._file.write(f'<script type="application/json" class="{kind}">{text}</script>\n'.encode())


@dataclass(frozen=True)
class Report:
    """Where a page goes, and what is the same for all its pictures."""

    path: Path  # .html
    title: str = "Instances"  # the heading
    side: int = SIDE  # pixels: pictures are made smaller where a side is longer

    @contextmanager
    def writing(self) -> Iterator[Page]:
        """The page, to which pictures are added; the file appears whole or not at all.

        Raises:
            UserError: it cannot be written.
        """
        before, after = _around(self.title)
        with replacing(self.path) as file:
            file.write(before)
            page = Page(file, self.side)
            yield page
            page.finish()
            file.write(after)


def write(
    results: Iterable[Instances],
    path: str | os.PathLike[str],
    *,
    names: Sequence[str] | None = None,
    title: str = "Instances",
    side: int = SIDE,
) -> None:
    """Write what a model found as one page of HTML, which opens anywhere, without a server or a network.

    Args:
        results: what `predict` returns, or `stream` gives: of that, one at a time is held.
        path: the file, .html; it appears whole or not at all.
        names: of the pictures, one each; None counts them.
        title: the heading.
        side: pictures are made smaller where a side is longer, in pixels.

    Raises:
        UserError: the file cannot be written.
        ValueError: there are fewer or more names than results.
    """
    count = 0
    with Report(Path(path), title, side).writing() as page:
        for count, found in enumerate(results, 1):
            if names is not None and count > len(names):
                raise ValueError(f"names must hold one for each result, got {len(names)} and more results")
            name = f"picture {count}" if names is None else names[count - 1]
            page.add(name, found.picture, found.to_coco(count), found.classes)
        if names is not None and len(names) != count:
            raise ValueError(f"names must hold one for each result, got {len(names)} for {count}")


def _place(record: Record) -> Record:
    """Where it is, as the page draws it."""
    rle = record.get("segmentation")
    box = record["bbox"] if "bbox" in record else mask.toBbox(record["segmentation"]).tolist()
    area = box[2] * box[3] if rle is None else int(mask.area(rle))
    counts = rle and (rle["counts"] if isinstance(rle["counts"], str) else rle["counts"].decode())
    return {"box": [round(side, 1) for side in box], "area": round(area), "counts": counts}


def _jpeg(pixels: np.ndarray, side: int) -> bytes:
    scale = side / max(pixels.shape[:2])
    if scale < 1:
        size = [max(1, round(length * scale)) for length in (pixels.shape[1], pixels.shape[0])]
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    flags = (cv2.IMWRITE_JPEG_QUALITY, _QUALITY)
    return cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), flags)[1].tobytes()


def _around(title: str) -> tuple[bytes, bytes]:
    """What stands before and after the pictures: the template, with style, scripts and the policy that allows them."""
    here = files(__package__)
    style, template = (here.joinpath(name).read_text("utf-8") for name in ("page.css", "page.html"))
    scripts = {name: here.joinpath(f"{name}.js").read_text("utf-8") for name in ("masks", "pictures", "page")}
    policy = (
        f"default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; style-src {_hash(style)}; "
        f"script-src {' '.join(map(_hash, scripts.values()))}"
    )
    heading = html.escape(title.encode(errors="replace").decode())
    filled = {"policy": policy, "title": heading, "style": style, **scripts}
    before, after = (Template(part).substitute(filled).encode() for part in template.split("<!-- pictures -->\n"))
    return before, after


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
