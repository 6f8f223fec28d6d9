"""Looking inside: the prototypes of a photo, and how a mask is put together from them, as pictures.

Figures 5 and 3 of the paper, for one's own photo: what each prototype answers to, and the signed terms whose sum,
through a sigmoid and cut by the box, is the mask.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from yolact.draw import draw
from yolact.instances import Instances
from yolact.ops.reference.assemble import assemble_values

TERMS = 8  # the strongest, which are shown
_COLUMNS = 8
_WIDTH = 1600  # pixels of a sheet between its margins
_GAP, _MARGIN = 12, 32
_CAPTION, _TITLE = 24, 62  # pixels of height for text
_PAPER, _INK, _SOFT, _LINE = (255, 255, 255), (24, 27, 31), (105, 112, 122), (221, 225, 231)
_NARROWEST = 1 / 3  # of a cell's sides: what is longer and thinner is shown shorter

Cell = tuple[np.ndarray, str]  # RGB uint8, and what is written under it


@dataclass(frozen=True, eq=False)
class Assembly:
    """How one mask is put together, at the prototypes' resolution but for the mask itself."""

    coefficients: np.ndarray  # [K]
    terms: np.ndarray  # [K, h, w] prototype times coefficient
    total: np.ndarray  # [h, w] their sum
    sigmoid: np.ndarray  # [h, w]
    cut: np.ndarray  # [h, w] the same, 0 outside the box
    mask: np.ndarray  # [H, W] bool, stretched to the picture, above 0.5

    @property
    def strongest(self) -> np.ndarray:
        """The prototypes [K] by how much their terms weigh where the mask may be: within the box."""
        weight = np.abs(self.terms * (self.cut > 0)).sum((1, 2))
        return np.argsort(-weight, kind="stable")


def assemble(instance: Instances) -> Assembly:
    """Put a mask together step by step (section 3.3 of the paper).

    Args:
        instance: a single one, as `result[0]`.

    Raises:
        ValueError: it is none, or several.
    """
    if len(instance) != 1:
        raise ValueError(f"instance must be a single one, as result[0], got {len(instance)}")
    instance = _on_cpu(instance)
    prototypes = instance.prototypes.permute(2, 0, 1)  # [K, h, w]
    terms = prototypes * instance.coefficients[0, :, None, None]
    size = prototypes.shape[1], prototypes.shape[2]  # the values at this size are those before they are stretched
    given = instance.prototypes[None], instance.coefficients[None], instance.relative_boxes[None], size
    raw, _ = assemble_values(*given, activation="none", crop="none")
    whole, _ = assemble_values(*given, crop="none")
    cut, _ = assemble_values(*given)
    return Assembly(
        coefficients=instance.coefficients[0].numpy(),
        terms=terms.numpy(),
        total=raw[0, 0].numpy(),
        sigmoid=whole[0, 0].numpy(),
        cut=cut[0, 0].numpy(),
        mask=instance.masks[0].numpy(),
    )


def _on_cpu(instances: Instances) -> Instances:
    """The same on the host."""
    tensors = {name: tensor.cpu() for name, tensor in instances.per_row().items()}
    return replace(instances, **tensors, prototypes=instances.prototypes.cpu())


def draw_prototypes(instances: Instances) -> np.ndarray:  # [., ., 3] uint8 RGB
    """All prototypes of a picture side by side, each from its least, dark, to its most, bright (figure 5 of the paper).

    What `predict` returned for the picture has them, whether anything was found or not.
    """
    prototypes = instances.prototypes.cpu().permute(2, 0, 1).numpy()  # [K, h, w]
    cells = [(_bright(plane), _prototype_text(number, plane)) for number, plane in enumerate(prototypes)]
    title = f"{len(prototypes)} prototypes", "Each from its least, dark, to its most, bright; the number is its most."
    return _sheet(title, [(cells, _COLUMNS)], instances.size)


def draw_assembly(instance: Instances) -> np.ndarray:  # [., ., 3] uint8 RGB
    """How the mask of an instance is put together: its strongest terms, their sum, and what becomes of it (figure 3).

    Args:
        instance: a single one, as `result[0]`.

    Raises:
        ValueError: it is none, or several.
    """
    made = assemble(instance)
    shown = made.strongest[:TERMS]
    most = float(np.abs(made.terms[shown]).max())
    terms = [(_signed(made.terms[k], most), f"#{k}  times {made.coefficients[k]:+.2f}") for k in shown]
    steps = [
        (_signed(made.total, float(np.abs(made.total).max())), f"the sum of all {len(made.terms)} terms"),
        (_bright(made.sigmoid, 1), "its sigmoid"),
        (_bright(made.cut, 1), "cut by the box"),
        (_on_photo(instance, made.mask), "stretched to the photo: above one half"),
    ]
    name, score = instance.names[0], float(instance.scores[0])
    text = f"Prototypes times coefficients: red adds to the mask, blue takes away. The {len(shown)} that weigh most."
    return _sheet((f"The mask of {name} {score:.2f}", text), [(terms, _COLUMNS), (steps, 4)], instance.size)


def draw_inside(instances: Instances, number: int = 0) -> np.ndarray:  # [., ., 3] uint8 RGB
    """Both sheets, one above the other: the prototypes, and the assembly of one instance where there are any."""
    sheets = [draw_prototypes(instances), *([draw_assembly(instances[number])] if len(instances) else [])]
    return np.concatenate(sheets)


def _prototype_text(number: int, plane: np.ndarray) -> str:
    most = float(plane.max())
    return f"#{number}  {f'{most:.2g}' if most > 0 else 'silent'}"


def _bright(plane: np.ndarray, most: float | None = None) -> np.ndarray:
    """Values [h, w] as colours, from the least, or 0, to the most."""
    least, most = (float(plane.min()), float(plane.max())) if most is None else (0.0, most)
    share = (plane - least) / (most - least) if most > least else np.zeros_like(plane)
    levels = np.rint(255 * np.nan_to_num(share).clip(0, 1)).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)


def _signed(plane: np.ndarray, most: float) -> np.ndarray:
    """Values [h, w] as colours: white is 0, red above, blue below."""
    share = np.nan_to_num(plane / most if most > 0 else plane).clip(-1, 1)[..., None]
    red, blue = np.array((178, 24, 43)), np.array((33, 102, 172))
    strength = np.sqrt(np.abs(share))  # what is weak is seen as well
    return np.rint(255 * (1 - strength) + strength * np.where(share > 0, red, blue)).astype(np.uint8)


def _on_photo(instance: Instances, mask: np.ndarray) -> np.ndarray:
    label = int(instance.labels[0])
    return draw(instance.picture, [mask], instance.boxes.cpu().numpy(), [label], instance.names)


def _sheet(title: tuple[str, str], rows: Sequence[tuple[list[Cell], int]], size: tuple[int, int]) -> np.ndarray:
    """Cells of the picture's shape in rows of so many, with a heading."""
    height, width = size
    ratio = min(max(height / width, _NARROWEST), 1 / _NARROWEST)
    placed: list[tuple[Cell, tuple[int, int, int, int]]] = []  # x, y, width, height
    y = _MARGIN + _TITLE
    for cells, columns in rows:
        w = (_WIDTH - _GAP * (columns - 1)) // columns
        h = round(w * ratio)
        for i, cell in enumerate(cells):
            placed.append((cell, (_MARGIN + i % columns * (w + _GAP), y + i // columns * (h + _CAPTION + _GAP), w, h)))
        y += math.ceil(len(cells) / columns) * (h + _CAPTION + _GAP)
    sheet = Image.new("RGB", (_WIDTH + 2 * _MARGIN, y + _MARGIN - _GAP), _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, _MARGIN - 6), title[0], _INK, ImageFont.load_default(26))
    pen.text((_MARGIN, _MARGIN + 28), title[1], _SOFT, ImageFont.load_default(16))
    for (picture, text), (x, y, w, h) in placed:
        way = cv2.INTER_AREA if picture.shape[1] > w else cv2.INTER_LINEAR
        sheet.paste(Image.fromarray(cv2.resize(picture, (w, h), interpolation=way)), (x, y))
        pen.rectangle((x, y, x + w - 1, y + h - 1), outline=_LINE)
        pen.text((x, y + h + 4), text, _SOFT, ImageFont.load_default(15))
    return np.asarray(sheet)
