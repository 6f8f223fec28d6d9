"""What can be wrong with a data set, and how it is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

OnFault = Literal["stop", "skip"]


class FaultKind(Enum):
    """The kinds of faults; a file that is damaged as a whole (no JSON, no categories) is an error instead."""

    MALFORMED_PICTURE = "malformed picture"
    PICTURE_SIZE = "impossible picture size"
    PICTURE_ID_TWICE = "picture id used twice"
    FILE_NAME_TWICE = "file name used twice"
    MISSING_FILE = "missing file"
    UNREADABLE_PICTURE = "unreadable picture"
    OTHER_SIZE = "picture of another size"
    MALFORMED_ANNOTATION = "malformed annotation"
    ANNOTATION_ID_TWICE = "annotation id used twice"
    UNKNOWN_PICTURE = "unknown picture"
    UNKNOWN_CATEGORY = "unknown category"
    MALFORMED_BOX = "malformed box"
    EMPTY_BOX = "box without area"
    BOX_OFF_PICTURE = "box off its picture"
    MALFORMED_SEGMENTATION = "malformed segmentation"
    EMPTY_SEGMENTATION = "segmentation without area"
    SEGMENTATION_OFF_PICTURE = "segmentation far off its picture"
    BOX_MISFIT = "box that does not fit its segmentation"

    @property
    def stops(self) -> bool:
        """Whether one of it stops whom faults shall stop; what covers nothing does not: COCO's files hold some."""
        return self not in (FaultKind.EMPTY_BOX, FaultKind.EMPTY_SEGMENTATION, FaultKind.BOX_MISFIT)


@dataclass(frozen=True)
class Fault:
    """One thing wrong with one record of a data set."""

    kind: FaultKind
    record: Literal["picture", "annotation"]
    id: int | None  # as the file has it; None where it has none that could be one
    text: str  # one line that names the record and the value


def summary(faults: Sequence[Fault]) -> str:
    """One line for the log: how many of which kind, the most frequent first."""
    kinds = Counter(fault.kind.value for fault in faults).most_common()
    noun = "fault" if len(faults) == 1 else "faults"
    return f"{len(faults)} {noun} ({', '.join(f'{n} × {kind}' for kind, n in kinds)})"
