"""yolact.mask against pycocotools.mask on COCO's annotations and on what real models answered, byte for byte."""

from __future__ import annotations

import json
from itertools import groupby

import numpy as np
import pytest
from conftest import shared_path
from masks import real_rles, same
from pycocotools import mask as coco

from yolact import mask

# pycocotools' own, about how NumPy 2 asks for copies.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ORACLE = "data/coco_eval_oracle"
ANNOTATIONS = ("data/coco-val-daily/instances_val2017_daily.json", f"{ORACLE}/instances_val2014_100.json")


@pytest.mark.parametrize("name", ["yolact_base", "yolact_resnet50", "coco"])
def test_every_function_matches_on_real_strings(name):
    """What published models answered, and COCO's own results; all of it."""
    if name == "coco":
        results = json.loads(shared_path(f"{ORACLE}/instances_val2014_fakesegm100_results.json").read_text())
        rles = [result["segmentation"] for result in results]
    else:
        rles = real_rles(name)
    of_one_size = [list(group) for _, group in groupby(rles, key=lambda rle: rle["size"])]  # a picture or more
    for some in (group[start : start + 200] for group in of_one_size for start in range(0, len(group), 200)):
        flags = [place % 3 == 0 for place in range(len(some))]
        pixels = mask.decode(some)
        assert [rle["counts"].decode() for rle in mask.encode(pixels)] == [rle["counts"] for rle in some]
        assert np.array_equal(pixels[..., 0], coco.decode(some[0]))
        assert same(mask.area(some), coco.area(some))  # pycocotools counts at most 255 with NumPy 2
        assert same(mask.toBbox(some), coco.toBbox(some))
        assert same(mask.iou(some, some, flags), coco.iou(some, some, flags))
        for intersect in (False, True):
            assert same(mask.merge(some, intersect), coco.merge(some, intersect))
    some = rles[:: len(rles) // 100]  # of different sizes
    assert same(mask.iou(some, some, [0] * len(some)), coco.iou(some, some, [0] * len(some)))


@pytest.mark.parametrize("file", ANNOTATIONS)
def test_real_annotations_match(file):
    """COCO's own annotations: polygons of one part and of several, and crowds as uncompressed counts."""
    truth = json.loads(shared_path(file).read_text())
    sizes = {picture["id"]: (picture["height"], picture["width"]) for picture in truth["images"]}
    for annotation in truth["annotations"]:
        height, width = sizes[annotation["image_id"]]
        ours = mask.frPyObjects(annotation["segmentation"], height, width)
        assert same(ours, coco.frPyObjects(annotation["segmentation"], height, width))
        if isinstance(ours, list):
            assert same(mask.merge(ours), coco.merge(ours))
        assert same(mask.area(ours), coco.area(ours))
        assert same(mask.toBbox(ours), coco.toBbox(ours))
        assert same(mask.decode(ours), coco.decode(ours))
