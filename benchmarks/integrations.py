"""How much faster are other people's libraries with ours in? `python -m benchmarks.integrations [LIBRARY ...]`

Wants the environment of `make test-integrations`. Each job calls the installed library as it is and accelerated, in
turn and in one run, after their results were compared; a library that is not here is left out. `--record` writes the
results to `benchmarks/results` and their tables into the pages of `docs/integrations`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.inputs import LEVELS, SIDE, clustered_detections, ellipses, smooth_masks
from yolact import mask
from yolact.bench.machine import machine
from yolact.bench.timing import compare
from yolact.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
MOST_DIFFERENT = 1e-5  # share of pixels: those within rounding of their threshold


@dataclass(frozen=True)
class Job:
    name: str
    theirs: Callable[[], Any]
    ours: Callable[[], Any]


def ultralytics() -> Iterator[Job]:
    """A YOLO's prototypes of 640 x 640, objects of 4 % of the picture."""
    os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.gettempdir())
    import ultralytics.utils.ops as library
    from pycocotools.mask import encode

    from yolact.integrations import ultralytics as fast

    side = 640
    theirs, native = library.process_mask, library.process_mask_native
    with fast.accelerated():
        ours, fast_native = library.process_mask, library.process_mask_native
    release = fast.V8_3 if version("ultralytics") == "8.3.0" else fast.V8_4

    def theirs_to_rles(arguments: tuple[Any, ...]) -> list[dict[str, Any]]:
        masks = native(*arguments).byte().permute(1, 2, 0).numpy()
        return [{**rle, "counts": rle["counts"].decode()} for rle in encode(np.asfortranarray(masks))]

    for count, picture in ((10, (480, 640)), (100, (480, 640)), (100, (427, 640))):
        inputs = smooth_masks(detections=count, side=side // 4)
        prototypes = inputs.prototypes[0].permute(2, 0, 1).contiguous()
        scale = torch.tensor([picture[1], picture[0]]).repeat(2)
        arguments = (prototypes, inputs.coefficients[0], inputs.boxes[0] * scale, picture)
        size = f"{count} of {picture[0]} x {picture[1]}"
        yield Job(f"process_mask_native, {size}", lambda a=arguments: native(*a), lambda a=arguments: fast_native(*a))
        yield Job(
            f"the same to run lengths, {size}",
            lambda a=arguments: theirs_to_rles(a),
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


def as_maps(rows: torch.Tensor) -> list[torch.Tensor]:  # [1, P, C] -> a level each [1, 3 * C, h, w]
    levels = rows.split([3 * cells**2 for cells in LEVELS], 1)
    return [level.reshape(1, cells, cells, -1).permute(0, 3, 1, 2) for level, cells in zip(levels, LEVELS, strict=True)]


LIBRARIES = {"ultralytics": ultralytics, "mmdet": mmdet, "original": original, "supervision": supervision}


def check(job: Job) -> None:
    """Refuse to time what does not agree."""
    found, expected = job.ours(), job.theirs()
    if not isinstance(expected, torch.Tensor):
        found, expected = (torch.from_numpy(mask.decode(rles)) for rles in (found, expected))
    if found.shape != expected.shape or not expected.any():
        raise SystemExit(f"{job.name}: {list(found.shape)} and {list(expected.shape)}, or nothing at all")
    if (share := float((found != expected).float().mean())) > MOST_DIFFERENT:
        raise SystemExit(f"{job.name}: {share:.1e} of the pixels differ")


def measure(library: str, seconds: float) -> dict[str, Any]:
    """Time a library's jobs with one thread and with two."""
    rows = []
    with torch.inference_mode():
        for job in LIBRARIES[library]():
            check(job)
            row: dict[str, Any] = {"name": job.name}
            for threads in (1, 2):
                timings = compare({"ours": job.ours, "theirs": job.theirs}, seconds=seconds, threads=threads)
                row[str(threads)] = {name: asdict(timing) for name, timing in timings.items()}
            rows.append(row)
            print(line(row), flush=True)
    known = {"original": "commit 902073d"}.get(library)
    return {"machine": machine(), "version": known or version(library), "jobs": rows}


def line(row: dict[str, Any]) -> str:
    """One row of a page's table: milliseconds of theirs and ours, and the ratio, with one thread and with two."""
    cells = []
    for threads in ("1", "2"):
        theirs, ours = (row[threads][name]["median"] for name in ("theirs", "ours"))
        cells.append(f"{short(theirs)} → {short(ours)}, {theirs / ours:.1f}×")
    return f"| {row['name']} | {' | '.join(cells)} |"


def short(milliseconds: float) -> str:
    """Three digits, or all before the point."""
    return f"{milliseconds:.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"


def table(results: dict[str, Any]) -> str:
    """What a page says of one library's results."""
    told = results["machine"]
    head = f"{told['date'][:10]}, {told['cpu']}, torch {told['versions']['torch']}, version {results['version']}"
    rows = "\n".join(line(row) for row in results["jobs"])
    return f"{head}:\n\n| ms, theirs → ours | 1 thread | 2 threads |\n|---|---|---|\n{rows}\n"


def page(library: str) -> Path:
    return ROOT / "docs/integrations" / f"{library}.md"


def insert(text: str, results: dict[str, Any]) -> str:
    """The page with the table in its place."""
    return re.sub(f"{BEGIN}.*?{END}", lambda _: BEGIN + table(results) + END, text, flags=re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("libraries", nargs="*", metavar="LIBRARY", help=f"by default all: {', '.join(LIBRARIES)}")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each job and number of threads")
    parser.add_argument("--record", action="store_true", help="write the results, and the tables of the pages")
    arguments = parser.parse_args()
    if unknown := set(arguments.libraries) - set(LIBRARIES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    for library in arguments.libraries or LIBRARIES:
        try:
            results = measure(library, arguments.seconds)
        except (ModuleNotFoundError, UserError) as error:
            print(f"{library} is left out: {error}")
            continue
        if arguments.record:
            file = ROOT / "benchmarks/results" / f"{results['machine']['date'][:10]}-{library}.json"
            file.write_text(json.dumps(results, indent=1) + "\n")
            page(library).write_text(insert(page(library).read_text(), results))


if __name__ == "__main__":
    main()
