"""Small made-up files under the names that the documentation uses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from conftest import ROOT, skip_or_fail

from yolact.instances import Instances
from yolact.loading import load
from yolact.models.checkpoint import save_checkpoint
from yolact.predictor import Model

WEIGHTS = ROOT / "yolact/weights/yolact_lite0_dogcat.pth"
# Files are told apart by what they hold, so the bundled model stands in for all that have names.
MODELS = ("yolact_resnet50_54_800000.pth", "yolact_base_54_800000.pth")
PLUS = "yolact_plus_resnet50_54_800000.pth"  # the same with a net for scores of masks that knows nothing
SETS = {"train": ("train.json", 4), "val": ("val.json", 2), "val2017": ("instances_val2017.json", 2)}


def write_stand_ins(folder: Path) -> None:
    """photo.jpg (a cat), photos/, film.mp4, weights, and the data sets of SETS: the annotations and a folder each."""
    if not WEIGHTS.exists():
        skip_or_fail("weights", "the bundled model is not here")
    try:
        from skimage.data import chelsea
    except ImportError:
        skip_or_fail("demo", "scikit-image, which has the photo, is not installed")
    for name in MODELS:
        (folder / name).symlink_to(WEIGHTS)
    model = load(WEIGHTS)
    plus = Model(replace(model.config, mask_rescoring=True))
    plus.load_state_dict(model.state_dict(), strict=False)
    save_checkpoint(folder / PLUS, plus)
    photo = cv2.cvtColor(chelsea(), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(folder / "photo.jpg"), photo)
    found = model.predict(folder / "photo.jpg")[0]
    (folder / "photos").mkdir()
    for name in ("one.jpg", "two.jpg"):
        (folder / "photos" / name).symlink_to(folder / "photo.jpg")
    for name, (truth, count) in SETS.items():
        write_data_set(folder / name, folder / truth, photo, found, count)
    film = cv2.VideoWriter(str(folder / "film.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, photo.shape[1::-1])
    for brightness in (0, 10, 20):
        film.write(cv2.add(photo, np.full_like(photo, brightness)))
    film.release()


def write_data_set(folder: Path, truth: Path, photo: np.ndarray, found: Instances, count: int) -> None:
    """The photo several times, with what the bundled model finds in it for the truth."""
    folder.mkdir()
    height, width = photo.shape[:2]
    images, annotations = [], []
    for number in range(1, count + 1):
        cv2.imwrite(str(folder / f"{number}.jpg"), photo)
        images.append({"id": number, "file_name": f"{number}.jpg", "height": height, "width": width})
        for record, area in zip(found.to_coco(number), found.masks.sum((1, 2)).tolist(), strict=True):
            annotations.append(record | {"id": len(annotations) + 1, "iscrowd": 0, "area": area})
    names = zip(found.category_ids, found.class_names, strict=True)
    categories = [{"id": number, "name": name} for number, name in names]
    truth.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
