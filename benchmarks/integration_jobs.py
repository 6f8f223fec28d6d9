"""What benchmarks/integrations.py times: a library's own functions, and the same with ours in their places."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.inputs import LEVELS, SIDE, clustered_detections, ellipses, mask_logits, smooth_masks
from yolact import mask
from yolact.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Job:
    name: str
    theirs: Callable[[], Any]
    ours: Callable[[], Any]
    column: str | None = None  # of the table; else one for each number of torch's threads
    exact: bool = False  # the same to the byte


def ultralytics() -> Iterator[Job]:
    """A YOLO's prototypes of 640 x 640, objects of 4 % of the picture."""
    os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.gettempdir())
    import ultralytics.utils.ops as library

    from yolact.integrations import ultralytics as fast

    side = 640
    theirs, native = library.process_mask, library.process_mask_native
    with fast.accelerated():
        ours, fast_native = library.process_mask, library.process_mask_native
    release = fast.V8_3 if version("ultralytics") == "8.3.0" else fast.V8_4

    for count, picture in ((10, (480, 640)), (100, (480, 640)), (100, (427, 640))):
        inputs = smooth_masks(detections=count, side=side // 4)
        prototypes = inputs.prototypes[0].permute(2, 0, 1).contiguous()
        scale = torch.tensor([picture[1], picture[0]]).repeat(2)
        arguments = (prototypes, inputs.coefficients[0], inputs.boxes[0] * scale, picture)
        size = f"{count} of {picture[0]} x {picture[1]}"
        yield Job(f"process_mask_native, {size}", lambda a=arguments: native(*a), lambda a=arguments: fast_native(*a))
        yield Job(
            f"the same to run lengths, {size}",
            lambda a=arguments: pycocotools_rles(native(*a)),
            lambda a=arguments: fast.process_mask_native_to_rles(*a, release=release),
        )
    whole = (*arguments[:2], inputs.boxes[0] * side, (side, side))
    yield Job("process_mask, 100 of 640 x 640", lambda: theirs(*whole, True), lambda: ours(*whole, True))


def mmdet() -> Iterator[Job]:
    """YOLACT's heads at 550 x 550 after the network, masks in a picture of 480 x 640."""
    sys.path.insert(0, str(ROOT / "tests/integrations"))
    import mmcv_stub

    mmcv_stub.install()
    import mmdet.models.dense_heads.yolact_head
    import mmdet.structures.mask as masks_module
    from mmdet.registry import MODELS
    from mmengine.config import Config

    from yolact.integrations import mmdet as fast

    model = Config.fromfile(Path(mmdet.__file__).parent / ".mim/configs/yolact/yolact_r50_1xb8-55e_coco.py").model
    heads = [
        MODELS.build({**part, "test_cfg": model.test_cfg, "train_cfg": None}).eval()
        for part in (model.bbox_head, model.mask_head)
    ]
    meta = {"img_shape": (SIDE, SIDE), "ori_shape": (480, 640), "scale_factor": (SIDE / 640, SIDE / 480)}
    prototypes = smooth_masks().prototypes[0]
    inputs = clustered_detections()
    random = torch.Generator().manual_seed(0)
    coefficients = torch.randn(1, len(inputs.priors), 32, generator=random).tanh()
    maps = [as_maps(rows) for rows in (inputs.class_logits.roll(-1, 2), inputs.box_deltas, coefficients)]

    def predict(encode: bool) -> Any:
        (found,) = heads[0].predict_by_feat(*maps, [meta], rescale=False)
        masks = torch.sigmoid(prototypes @ found.coeffs.t())
        (found,) = heads[1].predict_by_feat([masks], None, [found], [meta], rescale=True)
        return masks_module.encode_mask_results(found.masks.numpy()) if encode else found.masks

    def accelerated(encode: bool) -> Any:
        with fast.accelerated():
            return predict(encode)

    for name, encode in (("heads' outputs to masks", False), ("heads' outputs to run lengths", True)):
        yield Job(f"{name}, 100 of 480 x 640", lambda e=encode: predict(e), lambda e=encode: accelerated(e))


def original() -> Iterator[Job]:
    """Detect and postprocess at 550 x 550, masks in a picture of 480 x 640; YOLACT_ORIGINAL names the checkout."""
    if "YOLACT_ORIGINAL" not in os.environ:
        raise UserError("YOLACT_ORIGINAL names no checkout of the original repository")
    sys.path.insert(0, os.environ["YOLACT_ORIGINAL"])
    import data
    import layers.output_utils
    import pycocotools.mask
    from layers.functions.detection import Detect

    from yolact.integrations import original as fast

    data.set_cfg("yolact_base_config")
    data.cfg.mask_proto_debug = False  # eval.py's
    inputs = clustered_detections()
    random = torch.Generator().manual_seed(0)
    detector = Detect(81, bkg_label=0, top_k=200, conf_thresh=0.05, nms_thresh=0.5)
    detector.use_fast_nms = True
    predictions = {
        "loc": inputs.box_deltas,
        "conf": inputs.class_logits.softmax(2),
        "mask": torch.randn(1, len(inputs.priors), 32, generator=random).tanh(),
        "priors": inputs.priors,
        "proto": smooth_masks().prototypes,
    }

    def predict(encode: bool) -> Any:
        masks = layers.output_utils.postprocess(detector(predictions, None), 640, 480)[3]
        if not encode:
            return masks
        # A mask at a time, as its evaluation does.
        rles = [pycocotools.mask.encode(np.asfortranarray(mask.numpy().astype(np.uint8))) for mask in masks]
        return [{**rle, "counts": rle["counts"].decode()} for rle in rles]

    def accelerated(encode: bool) -> Any:
        with fast.accelerated():
            return predict(encode)

    for name, encode in (("Detect and postprocess", False), ("Detect, postprocess, COCO JSON", True)):
        yield Job(f"{name}, 100 of 480 x 640", lambda e=encode: predict(e), lambda e=encode: accelerated(e))


def supervision() -> Iterator[Job]:
    """Masks of 4 % of a picture as Detections."""
    import supervision as library

    from yolact.integrations.supervision import from_supervision

    masks = ellipses(100, 480, 640).numpy()
    detections = library.Detections(
        xyxy=np.zeros((100, 4)), mask=masks, confidence=np.ones(100), class_id=np.zeros(100, int)
    )

    def theirs() -> list[dict[str, Any]]:
        return [{"size": [480, 640], "counts": library.mask_to_rle(mask, compressed=True)} for mask in detections.mask]

    yield Job("100 masks of 480 x 640 to run lengths", theirs, lambda: from_supervision(detections).rles)


def rfdetr() -> Iterator[Job]:
    """RF-DETR's `PostProcess`: scores that a threshold of 0.5 would leave a tenth of, masks of 4 % of the picture."""
    from rfdetr.models.postprocess import PostProcess

    from yolact.integrations import rfdetr as fast

    for queries, side, picture in ((100, 78, (480, 640)), (300, 78, (480, 640))):
        random = torch.Generator().manual_seed(0)
        outputs = {
            "pred_logits": torch.randn(1, queries, 91, generator=random) * 2 - 5,
            "pred_boxes": torch.rand(1, queries, 4, generator=random),
            "pred_masks": mask_logits(queries, side)[None],
        }
        postprocess, sizes = PostProcess(queries), torch.tensor([picture])

        def masks(call: tuple[Any, ...] = (postprocess, outputs, sizes)) -> torch.Tensor:
            return call[0](*call[1:])[0]["masks"][:, 0]

        def accelerated(masks: Callable[[], torch.Tensor] = masks) -> torch.Tensor:
            with fast.accelerated():
                return masks()

        size = f"{queries} of {side} x {side} to {picture[0]} x {picture[1]}"
        yield Job(f"PostProcess, {size}", masks, accelerated)
        yield Job(
            f"outputs to run lengths, {size}",
            lambda masks=masks: pycocotools_rles(masks()),
            lambda call=(outputs, sizes, queries): (
                fast.outputs_to_results(*call[:2], num_select=call[2])[0].rles  #
            ),
        )


def transformers() -> Iterator[Job]:
    """The three masks of one prompt, from what a SAM returns to the picture."""
    from transformers import Sam2ImageProcessor, SamImageProcessor

    from yolact.integrations import transformers as fast

    picture, inner = (1500, 2250), (683, 1024)
    logits = mask_logits(3, 256, coverage=0.2)[None]
    for name, processor, sizes in (
        ("SAM", SamImageProcessor(), ([picture], [inner])),
        ("SAM 2", Sam2ImageProcessor(), ([picture],)),
    ):

        def masks(call: tuple[Any, ...] = (processor, [logits], *sizes)) -> torch.Tensor:
            return call[0].post_process_masks(*call[1:])[0][0]

        def accelerated(masks: Callable[[], torch.Tensor] = masks) -> torch.Tensor:
            with fast.accelerated():
                return masks()

        size = f"3 of 256 x 256 to {picture[0]} x {picture[1]}"
        yield Job(f"{name}: post_process_masks, {size}", masks, accelerated)
    yield Job(
        f"{name}: the same to run lengths, {size}",
        lambda: pycocotools_rles(masks()),
        lambda: fast.masks_to_rles(logits, *(pair[0] for pair in sizes))[0],
    )


def pycocotools_rles(masks: torch.Tensor) -> list[dict[str, Any]]:  # [N, H, W]
    """What people write to encode masks."""
    from pycocotools.mask import encode

    rles = encode(np.asfortranarray(masks.byte().permute(1, 2, 0).numpy()))
    return [{**rle, "counts": rle["counts"].decode()} for rle in rles]


def pycocotools() -> Iterator[Job]:
    """The functions of pycocotools.mask, and COCOeval."""
    from pycocotools import mask as theirs

    from benchmarks import pycocotools_jobs
    from yolact.integrations import pycocotools as fast

    def repeat(call: Callable[[Any], Any], package: Any, count: int) -> Any:
        for _ in range(count):
            result = call(package)
        return result

    for size in pycocotools_jobs.SIZES:
        for name, call in pycocotools_jobs.functions(size).items():
            run = partial(repeat, call, count=size.calls)
            yield Job(name, partial(run, package=theirs), partial(run, package=mask), size.name, exact=True)
    evaluate = pycocotools_jobs.evaluation()

    def accelerated() -> Any:
        with fast.accelerated():
            return evaluate()

    yield Job("COCOeval, 100 pictures", evaluate, accelerated, pycocotools_jobs.SIZES[2].name, exact=True)


def as_maps(rows: torch.Tensor) -> list[torch.Tensor]:  # [1, P, C] -> a level each [1, 3 * C, h, w]
    levels = rows.split([3 * cells**2 for cells in LEVELS], 1)
    return [level.reshape(1, cells, cells, -1).permute(0, 3, 1, 2) for level, cells in zip(levels, LEVELS, strict=True)]


LIBRARIES = {
    "ultralytics": ultralytics,
    "mmdet": mmdet,
    "original": original,
    "supervision": supervision,
    "rfdetr": rfdetr,
    "transformers": transformers,
    "pycocotools": pycocotools,
}
