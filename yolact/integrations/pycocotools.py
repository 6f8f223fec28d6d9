"""COCO's own API with `yolact.mask` in place of its run lengths: pycocotools and every program upon it."""

from __future__ import annotations

from yolact import _mask, mask
from yolact.errors import UserError
from yolact.integrations.patching import Acceleration, Patch, find_module, version_of

KNOWN = "2.0.11"


def accelerate() -> Acceleration:
    """Put `yolact.mask` into the installed pycocotools.

    All functions of `pycocotools.mask` are ours, and those of the compiled `pycocotools._mask` below it that some
    programs call; so `COCO`, `COCOeval` and whatever calls them by their module run on ours. Results are theirs to the
    byte (`yolact.mask` tells what more it takes, and what it refuses). Names that your own program imported from
    `pycocotools.mask` before stay what they were.

    Raises:
        UserError: pycocotools is not here, or lacks one of the functions; nothing is changed.
    """
    interface, compiled = find_module("pycocotools.mask"), find_module("pycocotools._mask")
    functions = {
        interface: (mask.encode, mask.decode, mask.area, mask.toBbox),
        compiled: (
            *(_mask.encode, _mask.decode, _mask.area, _mask.toBbox),
            *(mask.merge, mask.iou, mask.frPyObjects),  # which the interface has from there
        ),
    }
    try:
        return Acceleration(
            [Patch(owner, ours.__name__, ours) for owner, replacements in functions.items() for ours in replacements]
        )
    except KeyError as error:
        raise UserError(
            f"pycocotools {version_of('pycocotools')} lacks {error}, which the known release {KNOWN} has; "
            "nothing was changed"
        ) from error


accelerated = accelerate  # reads well after `with`
