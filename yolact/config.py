"""The configurations: what fixes a network, its preprocessing, its detections and its training recipe."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from typing import Any, Literal, get_args, get_type_hints

from yolact.classes import COCO_CATEGORY_IDS, COCO_CLASSES, PASCAL_CLASSES
from yolact.errors import UserError
from yolact.options import (
    AnchorOptions,
    DeformableOptions,
    DetectOptions,
    FPNOptions,
    Preprocessing,
    TrainOptions,
)

Backbone = Literal["resnet50", "resnet101", "resnet152", "darknet53", "efficientnet_lite0", "mobilenet_v2"]


@dataclass(frozen=True)
class Config:
    """All that fixes a model: one value builds it, feeds it, reads its outputs and trains it."""

    name: str
    backbone: Backbone | str  # "timm/<name>": a network of timm's
    size: int = 550  # S: the network's input is S x S
    class_names: tuple[str, ...] = COCO_CLASSES
    category_ids: tuple[int, ...] = COCO_CATEGORY_IDS  # the data set's own, one a class
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    fpn: FPNOptions = field(default_factory=FPNOptions)
    anchors: AnchorOptions = field(default_factory=AnchorOptions)
    prototypes: int = 32  # K
    protonet_channels: int = 256
    head_channels: int = 256
    deformable: DeformableOptions | None = None  # of a ResNet
    mask_rescoring: bool = False  # a network predicts the IoU of every mask, by which its score is multiplied
    detect: DetectOptions = field(default_factory=DetectOptions)
    integer_boxes: bool = True  # boxes in picture pixels are truncated to integers, as the original does
    train: TrainOptions = field(default_factory=TrainOptions)

    def __post_init__(self) -> None:
        if self.backbone not in get_args(Backbone) and not re.fullmatch(r"timm/\S+", str(self.backbone)):
            known = ", ".join(get_args(Backbone))
            raise ValueError(f"backbone must be one of {known} or timm/NAME, got {self.backbone!r}")
        for name in ("size", "prototypes", "protonet_channels", "head_channels"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        if self.deformable is not None and not self.backbone.startswith("resnet"):
            raise ValueError(f"deformable: of ResNets alone, got {self.deformable} for {self.backbone}")
        if self.mask_rescoring and 2 * self.feature_sizes[0] < 63:  # what the net's five convolutions leave a pixel of
            raise ValueError(f"size must be at least 249 for masks to be scored, got {self.size}")
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
        return tuple(side * side * self.anchors.per_cell for side in self.feature_sizes)

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
        return cls(**{name: _read(types.get(name), value) for name, value in values.items()})


def _read(kind: Any, value: Any) -> Any:
    """A field's value of what `asdict` made of it."""
    options: Any = next((t for t in (kind, *get_args(kind)) if is_dataclass(t)), None)  # X of `X | None`
    return value if options is None or value is None else options(**value)


_BASE = Config("yolact_base", "resnet101", anchors=AnchorOptions(square=True))

_PLUS = replace(
    _BASE,
    name="yolact_plus_base",
    deformable=DeformableOptions(layers=(0, 4, 23, 3), interval=3),
    anchors=AnchorOptions(scales_per_octave=(1, 2 ** (1 / 3), 2 ** (2 / 3))),
    mask_rescoring=True,
)

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

_MOBILENETV2 = Config(
    "yolact_mobilenetv2",
    "mobilenet_v2",
    size=416,
    fpn=FPNOptions(channels=128),
    anchors=AnchorOptions(scales=(18, 36, 72, 145, 290)),  # the original's, scaled as those of yolact_im400 are
    protonet_channels=128,
    head_channels=128,
    integer_boxes=False,
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
        replace(_BASE, name="yolact_resnet152", backbone="resnet152"),
        _PLUS,
        replace(
            _PLUS,
            name="yolact_plus_resnet50",
            backbone="resnet50",
            deformable=DeformableOptions(layers=(0, 4, 6, 3)),
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
        _MOBILENETV2,
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
