"""The configurations hold the numbers that the published weights were trained with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from yolact.classes import COCO_CATEGORY_IDS
from yolact.config import ALIASES, CONFIGS, Config, get_config
from yolact.errors import UserError
from yolact.options import AnchorOptions, DeformableOptions, DetectOptions, Preprocessing

# name: input size, classes, scales, square anchors, sides of P3 to P7, priors
TABLE = {
    "yolact_base": (550, 80, (24, 48, 96, 192, 384), True, (69, 35, 18, 9, 5), 19248),
    "yolact_im400": (400, 80, (17, 34, 69, 139, 279), True, (50, 25, 13, 7, 4), 10077),
    "yolact_im700": (700, 80, (30, 61, 122, 244, 488), True, (88, 44, 22, 11, 6), 30963),
    "yolact_darknet53": (550, 80, (24, 48, 96, 192, 384), True, (69, 35, 18, 9, 5), 19248),
    "yolact_resnet50": (550, 80, (24, 48, 96, 192, 384), True, (69, 35, 18, 9, 5), 19248),
    "yolact_resnet50_pascal": (550, 20, (32, 64, 128, 256, 512), False, (69, 35, 18, 9, 5), 19248),
    "yolact_resnet152": (550, 80, (24, 48, 96, 192, 384), True, (69, 35, 18, 9, 5), 19248),
    "yolact_plus_base": (550, 80, (24, 48, 96, 192, 384), False, (69, 35, 18, 9, 5), 57744),
    "yolact_plus_resnet50": (550, 80, (24, 48, 96, 192, 384), False, (69, 35, 18, 9, 5), 57744),
    "mmdet_yolact_r50_1xb8": (550, 80, (24, 48, 96, 192, 384), False, (69, 35, 18, 9, 5), 19248),
    "mmdet_yolact_r50_8xb8": (550, 80, (24, 48, 96, 192, 384), False, (69, 35, 18, 9, 5), 19248),
    "mmdet_yolact_r101_1xb8": (550, 80, (24, 48, 96, 192, 384), False, (69, 35, 18, 9, 5), 19248),
    "yolact_mobilenetv2": (416, 80, (18, 36, 72, 145, 290), False, (52, 26, 13, 7, 4), 10842),
    "yolact_lite0": (320, 80, (16, 32, 64, 128, 256), False, (40, 20, 10, 5, 3), 6402),
}

DEFORMABLE = DeformableOptions(layers=(0, 4, 6, 3))


def test_every_configuration_is_in_the_table() -> None:
    assert set(CONFIGS) == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_numbers(name: str) -> None:
    config = get_config(name)
    assert config.name == name
    assert (
        config.size,
        config.num_classes,
        config.anchors.scales,
        config.anchors.square,
        config.feature_sizes,
        sum(config.level_sizes),
    ) == TABLE[name]


@pytest.mark.parametrize("name", TABLE)
def test_families_differ_as_the_projects_do(name: str) -> None:
    config = get_config(name)
    mmdetection = name.startswith("mmdet")
    assert config.fpn.p6_from == ("C5" if mmdetection else "P5")
    assert config.fpn.relu is not mmdetection
    assert config.integer_boxes is not (mmdetection or name in ("yolact_mobilenetv2", "yolact_lite0"))
    assert config.preprocessing.resize == ("uint8" if mmdetection else "float")
    assert config.detect.second_threshold is mmdetection
    assert config.detect.level_sizes == ((14283, 3675, 972, 243, 75) if mmdetection else None)


@pytest.mark.parametrize("name", TABLE)
def test_dict_round_trip(name: str) -> None:
    config = get_config(name)
    assert Config.from_dict(config.to_dict()) == config


def test_a_dict_written_before_there_was_yolact_plus_reads() -> None:
    values = get_config("yolact_base").to_dict()
    for name in ("deformable", "mask_rescoring"):
        del values[name]
    del values["anchors"]["scales_per_octave"], values["train"]["mask_iou_weight"], values["train"]["min_mask_iou_area"]
    assert Config.from_dict(values) == get_config("yolact_base")


def test_yolact_plus_is_base_but_for_four_things() -> None:
    plus, base = get_config("yolact_plus_base"), get_config("yolact_base")
    assert plus.anchors.scales_per_octave == (1, 2 ** (1 / 3), 2 ** (2 / 3))
    assert plus.mask_rescoring
    assert (plus.train.mask_iou_weight, plus.train.min_mask_iou_area) == (25, 25)
    own = {"name": base.name, "deformable": None, "anchors": base.anchors, "mask_rescoring": False}
    assert replace(plus, **own) == base


@pytest.mark.parametrize(
    ("name", "stages", "deformable"),
    [
        ("yolact_plus_resnet50", (3, 4, 6, 3), [[], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5], [0, 1, 2]]),
        ("yolact_plus_base", (3, 4, 23, 3), [[], [0, 3], [0, 3, 6, 9, 12, 15, 18, 21], [0]]),
    ],
)
def test_the_deformable_blocks_are_the_originals(
    name: str, stages: tuple[int, ...], deformable: list[list[int]]
) -> None:
    options = get_config(name).deformable
    assert options is not None
    assert deformable == [
        [block for block in range(blocks) if options.includes(stage, block, blocks)]
        for stage, blocks in enumerate(stages)
    ]


def test_a_stage_that_is_not_wholly_deformable_begins_with_a_plain_block() -> None:
    options = DeformableOptions(layers=(0, 0, 4, 0), interval=2)
    assert [block for block in range(6) if options.includes(2, block, 6)] == [2, 4]


def test_level_sizes_follow_another_input_size() -> None:
    config = replace(get_config("mmdet_yolact_r50_1xb8"), size=64)
    assert config.detect.level_sizes == config.level_sizes == (192, 48, 12, 3, 3)


def test_coco_ids_have_the_data_sets_gaps() -> None:
    assert len(COCO_CATEGORY_IDS) == 80
    pairs = dict(zip(get_config("yolact_base").class_names, COCO_CATEGORY_IDS, strict=True))
    assert (pairs["person"], pairs["stop sign"], pairs["cat"], pairs["tv"], pairs["toothbrush"]) == (1, 13, 17, 72, 90)


def test_aliases_are_mmdetections_names() -> None:
    for alias, name in ALIASES.items():
        assert get_config(alias) is get_config(f"mmdet_{alias}") is get_config(name) is CONFIGS[name]


def test_get_config_rejects_an_unknown_name() -> None:
    with pytest.raises(UserError, match=r"unknown configuration 'yolact_big': choose one of yolact_base, "):
        get_config("yolact_big")


def test_other_classes() -> None:
    config = get_config("yolact_base")
    assert config.with_num_classes(None) is config.with_num_classes(80) is config
    assert config.with_num_classes(2).class_names == ("class 1", "class 2")
    assert config.with_classes(("date", "fig"), (7, 9)).category_ids == (7, 9)
    with pytest.raises(ValueError, match="num_classes must be at least 1, got 0"):
        config.with_num_classes(0)
    with pytest.raises(ValueError, match="got 2 and 1"):
        config.with_classes(("date", "fig"), (7,))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Config("mine", "resnet18"), "backbone must be one of resnet50, .* or timm/NAME, got 'resnet18'"),
        (lambda: Config("mine", 50), "backbone must be one of .* or timm/NAME, got 50"),
        (lambda: Config("mine", "timm/"), "backbone must be one of .* or timm/NAME, got 'timm/'"),
        (lambda: Config("mine", "resnet50", size=-5), "size must be .* at least 1, got -5"),
        (lambda: Config("mine", "resnet50", size=550.5), "size must be a whole number .*, got 550.5"),
        (lambda: Config("mine", "resnet50", prototypes=0), "prototypes must be .*, got 0"),
        (lambda: Preprocessing(mean=(1.0, 2.0)), r"mean must hold three finite numbers, got \(1.0, 2.0\)"),
        (lambda: Preprocessing(mean=(1.0, 2.0, math.nan)), "mean must hold three finite numbers, got .*nan"),
        (lambda: Preprocessing(std=(1.0, 2.0, 0.0)), "std must hold three positive numbers, got .*0.0"),
        (lambda: Preprocessing(resize="area"), "resize must be 'float' or 'uint8', got 'area'"),
        (lambda: AnchorOptions(scales=(24, 48, -96, 192, 384)), "scales must hold positive numbers, got .*-96"),
        (
            lambda: AnchorOptions(scales_per_octave=(1, 0)),
            r"scales_per_octave must hold .*, got \(1, 0\)",
        ),
        (lambda: DeformableOptions(layers=(4, 6, 3)), r"layers must hold four whole numbers .*, got \(4, 6, 3\)"),
        (lambda: DeformableOptions(layers=(0, 4, -6, 3)), r"layers must hold .* at least 0, .*, got \(0, 4, -6, 3\)"),
        (lambda: DeformableOptions(layers=(0, 4, 6, 3), interval=0), "interval must be .* at least 1, got 0"),
        (lambda: replace(get_config("yolact_darknet53"), deformable=DEFORMABLE), "deformable: of ResNets .*darknet53"),
        (lambda: replace(get_config("yolact_plus_base"), size=248), "size must be at least 249 for masks .*, got 248"),
        (lambda: AnchorOptions(aspect_ratios=()), r"aspect_ratios must hold positive numbers, got \(\)"),
        (lambda: Config("mine", "resnet50", anchors=AnchorOptions(scales=(24,))), "anchors.scales: 5 levels .*24"),
    ],
)
def test_fields_out_of_range_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_detect_options_are_keyword_arguments() -> None:
    assert DetectOptions(top_k=7).kwargs()["top_k"] == 7
    assert set(DetectOptions().kwargs()) == {
        "score_threshold", "second_threshold", "iou_threshold", "top_k", "max_detections", "across_classes", "method",
        "variances", "max_log_size", "clip", "union_eps", "level_sizes", "pre_nms_top_k",
    }  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_truths_of_less_than_four_pixels_teach_nothing_but_what_the_bundled_model_learnt(name: str) -> None:
    assert get_config(name).train.min_truth_size == (0 if name == "yolact_lite0" else 4)
