"""The configurations: what fixes a network, its preprocessing, its detections and its training recipe."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, get_args, get_type_hints

from yolact.classes import COCO_CATEGORY_IDS, COCO_CLASSES, PASCAL_CLASSES
from yolact.errors import UserError

Backbone = Literal["resnet50", "resnet101", "darknet53", "efficientnet_lite0"]


def _are_positive(values: Sequence[float]) -> bool:
    """Finite, too."""
    return all(0 < value < math.inf for value in values)


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the network's input: resize to S x S, subtract `mean`, divide by `std`."""

    mean: tuple[float, float, float] = (123.68, 116.78, 103.94)  # RGB, 0..255
    std: tuple[float, float, float] = (58.40, 57.12, 57.38)  # RGB
    resize: Literal["float", "uint8"] = "float"  # "uint8": pixels are rounded after the resize, as cv2.resize does

    def __post_init__(self) -> None:
        if len(self.mean) != 3 or not all(map(math.isfinite, self.mean)):
            raise ValueError(f"mean must hold three finite numbers, got {self.mean}")
        if len(self.std) != 3 or not _are_positive(self.std):
            raise ValueError(f"std must hold three positive numbers, got {self.std}")
        if self.resize not in ("float", "uint8"):
            raise ValueError(f"resize must be 'float' or 'uint8', got {self.resize!r}")


@dataclass(frozen=True)
class AnchorOptions:
    """The priors: at every cell one for each aspect ratio, of the level's scale."""

    scales: tuple[float, ...] = (24, 48, 96, 192, 384)  # pixels of the input, P3 to P7
    aspect_ratios: tuple[float, ...] = (1, 1 / 2, 2)  # width / height, in the order of the head's channels
    square: bool = False  # height := width, a slip of the original that its COCO weights were trained with

    def __post_init__(self) -> None:
        for name in ("scales", "aspect_ratios"):
            values = getattr(self, name)
            if not values or not _are_positive(values):
                raise ValueError(f"{name} must hold positive numbers, got {values}")


@dataclass(frozen=True)
class FPNOptions:
    """The feature pyramid (section 3 of the paper), in the two topologies that weights exist for."""

    channels: int = 256
    p6_from: Literal["P5", "C5"] = "P5"  # the original / mmdetection
    relu: bool = True  # after the 3x3 convolutions of P3 to P5; mmdetection has none


@dataclass(frozen=True)
class DetectOptions:
    """The keyword options of `yolact.ops.detect`."""

    score_threshold: float = 0.05
    second_threshold: bool = False
    iou_threshold: float = 0.5
    top_k: int = 200
    max_detections: int | None = 100
    across_classes: bool = False
    method: Literal["fast", "greedy"] = "fast"
    variances: tuple[float, float] = (0.1, 0.2)
    max_log_size: float | None = None
    clip: bool = False
    union_eps: float = 0.0
    level_sizes: tuple[int, ...] | None = None
    pre_nms_top_k: int | None = None

    def kwargs(self) -> dict[str, Any]:
        """The options as keyword arguments of `yolact.ops.detect`."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class TrainOptions:
    """The training recipe (section 6 of the paper) for one batch size; another scales rate and length."""

    batch_size: int = 8
    learning_rate: float = 1e-3
    warmup_rate: float = 1e-4  # where the linear warm-up starts
    warmup_iterations: int = 500
    unit: Literal["iterations", "epochs"] = "iterations"  # of `length` and `steps`
    length: int = 800_000
    steps: tuple[int, ...] = (280_000, 600_000, 700_000, 750_000)  # the rate is multiplied by `gamma` at each
    gamma: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip_norm: float | None = None  # of the gradient

    positive_iou: float = 0.5  # a prior of at least this IoU with a truth is positive,
    negative_iou: float = 0.4  # below this one background, between them neutral
    crowd_overlap: float | None = 0.7  # background covered more than this by a crowd is neutral; None: it stays
    negatives_per_positive: int = 3  # the hardest of a picture
    max_masks: int = 100  # positives drawn for the mask loss in a picture
    rescale_sampled_masks: bool = True  # scale the mask loss back to all positives; False: divide by those drawn
    min_truth_size: float = 4.0  # pixels of the input; truths of less width or height are dropped
    box_weight: float = 1.5
    classification_weight: float = 1.0
    mask_weight: float = 6.125
    semantic_weight: float = 1.0


@dataclass(frozen=True)
class Config:
    """All that fixes a model: one value builds it, feeds it, reads its outputs and trains it."""

    name: str
    backbone: Backbone
    size: int = 550  # S: the network's input is S x S
    class_names: tuple[str, ...] = COCO_CLASSES
    category_ids: tuple[int, ...] = COCO_CATEGORY_IDS  # the data set's own, one a class
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    fpn: FPNOptions = field(default_factory=FPNOptions)
    anchors: AnchorOptions = field(default_factory=AnchorOptions)
    prototypes: int = 32  # K
    protonet_channels: int = 256
    head_channels: int = 256
    detect: DetectOptions = field(default_factory=DetectOptions)
    integer_boxes: bool = True  # boxes in picture pixels are truncated to integers, as the original does
    train: TrainOptions = field(default_factory=TrainOptions)

    def __post_init__(self) -> None:
        if self.backbone not in get_args(Backbone):
            raise ValueError(f"backbone must be one of {', '.join(get_args(Backbone))}, got {self.backbone!r}")
        for name in ("size", "prototypes", "protonet_channels", "head_channels"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        if len(self.class_names) != len(self.category_ids) or not self.class_names:
            raise ValueError(
                f"class_names and category_ids: one of each a class is needed, got {len(self.class_names)} "
                f"and {len(self.category_ids)}"
            )
        if len(self.anchors.scales) != len(self.feature_sizes):
            raise ValueError(
                f"anchors.scales: {len(self.feature_sizes)} levels need as many, got {self.anchors.scales}"
            )
        if self.detect.pre_nms_top_k is not None:  # a cap a level needs to know the levels
            object.__setattr__(self, "detect", replace(self.detect, level_sizes=self.level_sizes))

    @property
    def num_classes(self) -> int:
        """Foreground classes."""
        return len(self.class_names)

    @property
    def feature_sizes(self) -> tuple[int, ...]:
        """Side of P3 to P7; every stride of two rounds up."""
        return tuple(math.ceil(self.size / 2**level) for level in range(3, 8))

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """Priors of P3 to P7; together P."""
        return tuple(side * side * len(self.anchors.aspect_ratios) for side in self.feature_sizes)

    def with_classes(self, class_names: tuple[str, ...], category_ids: tuple[int, ...] | None = None) -> Config:
        """The same configuration for other classes; category ids default to 1..n."""
        ids = tuple(category_ids) if category_ids is not None else tuple(range(1, len(class_names) + 1))
        return replace(self, class_names=tuple(class_names), category_ids=ids)

    def with_num_classes(self, num_classes: int | None) -> Config:
        """The same configuration for `num_classes` classes without names; None or the same number changes nothing."""
        if num_classes is None or num_classes == self.num_classes:
            return self
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        return self.with_classes(tuple(f"class {i + 1}" for i in range(num_classes)))

    def to_dict(self) -> dict[str, Any]:
        """Nested dicts of plain values, as a checkpoint carries them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Config:
        """The inverse of `to_dict`.

        Raises:
            TypeError: a field is unknown or a needed one missing.
        """
        types = get_type_hints(cls)
        return cls(**{k: types[k](**v) if is_dataclass(types.get(k)) else v for k, v in values.items()})


_BASE = Config("yolact_base", "resnet101", anchors=AnchorOptions(square=True))

_MMDET = Config(
    "mmdet_yolact_r50_1xb8",
    "resnet50",
    preprocessing=Preprocessing(resize="uint8"),
    fpn=FPNOptions(p6_from="C5", relu=False),
    anchors=AnchorOptions(aspect_ratios=(2, 1, 1 / 2)),
    detect=DetectOptions(
        second_threshold=True, max_log_size=math.log(1000 / 16), clip=True, union_eps=1e-6, pre_nms_top_k=1000
    ),
    integer_boxes=False,
    train=TrainOptions(
        unit="epochs",
        length=55,
        steps=(20, 42, 49, 52),
        crowd_overlap=None,
        rescale_sampled_masks=False,
    ),
)

_LITE0 = Config(
    "yolact_lite0",
    "efficientnet_lite0",
    size=320,
    preprocessing=Preprocessing(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0)),
    fpn=FPNOptions(channels=96),
    # No old weights ask for square anchors here, and anchors truly of ratio fit people and cars better. A side is
    # twice the level's stride, so that the largest nearly fills the picture.
    anchors=AnchorOptions(scales=(16, 32, 64, 128, 256)),
    protonet_channels=64,
    head_channels=96,
    integer_boxes=False,
    train=TrainOptions(min_truth_size=0.0),  # as the bundled weights were trained
)

CONFIGS: dict[str, Config] = {
    config.name: config
    for config in (
        _BASE,
        replace(
            _BASE,
            name="yolact_im400",
            size=400,
            anchors=AnchorOptions(scales=(17, 34, 69, 139, 279), square=True),
        ),
        replace(
            _BASE,
            name="yolact_im700",
            size=700,
            anchors=AnchorOptions(scales=(30, 61, 122, 244, 488), square=True),
            train=TrainOptions(max_masks=300),
        ),
        replace(
            _BASE,
            name="yolact_darknet53",
            backbone="darknet53",
            preprocessing=Preprocessing(mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0)),
        ),
        replace(_BASE, name="yolact_resnet50", backbone="resnet50"),
        replace(
            _BASE,
            name="yolact_resnet50_pascal",
            backbone="resnet50",
            class_names=PASCAL_CLASSES,
            category_ids=tuple(range(1, 21)),
            anchors=AnchorOptions(scales=(32, 64, 128, 256, 512)),
            train=TrainOptions(length=120_000, steps=(60_000, 100_000)),
        ),
        _MMDET,
        replace(
            _MMDET,
            name="mmdet_yolact_r50_8xb8",
            train=replace(
                _MMDET.train,
                batch_size=64,
                learning_rate=8e-3,
                warmup_rate=8e-4,
                warmup_iterations=1000,
                clip_norm=35.0,
            ),
        ),
        replace(_MMDET, name="mmdet_yolact_r101_1xb8", backbone="resnet101"),
        _LITE0,
    )
}

# mmdetection's own names for its configurations; with "mmdet_" before them as well.
ALIASES = {
    "yolact_r50_1xb8-55e_coco": "mmdet_yolact_r50_1xb8",
    "yolact_r50_8xb8-55e_coco": "mmdet_yolact_r50_8xb8",
    "yolact_r101_1xb8-55e_coco": "mmdet_yolact_r101_1xb8",
}


def get_config(name: str) -> Config:
    """The configuration of that name, the original's, mmdetection's or ours.

    Raises:
        UserError: there is none; the message lists those there are.
    """
    config = CONFIGS.get(ALIASES.get(name.removeprefix("mmdet_"), name))
    if config is None:
        raise UserError(f"unknown configuration {name!r}: choose one of {', '.join(CONFIGS)}")
    return config
