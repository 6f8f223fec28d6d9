"""SAM, SAM 2 and SAM 3 of transformers, as installed, beside what takes their places; weights are random."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from installed import assert_same_masks, encoded, installed
from pages import run_example
from PIL import Image
from torch import Tensor

import yolact.integrations.transformers as fast
from yolact.errors import UserError

transformers = installed("transformers")
PADDED = {"height": 64, "width": 64}
SIZES, INNER = [(97, 160), (61, 33)], [(39, 64), (64, 35)]


def processors():
    """Of each SAM: its processor, and what it is told beside the pictures' sizes."""
    names = ("sam.image_processing_sam", "sam.image_processing_pil_sam", "sam2.image_processing_sam2")
    *ones, twos = (installed(f"transformers.models.{name}") for name in names)
    for owner in (ones[0].SamImageProcessor, ones[1].SamImageProcessorPil):
        yield owner(pad_size=PADDED), (INNER,)
    yield twos.Sam2ImageProcessor(), ()
    yield installed("transformers.models.sam3.image_processing_sam3").Sam3ImageProcessor(), ()


PROCESSORS = list(processors())
THEIRS = [type(processor).post_process_masks for processor, _ in PROCESSORS]


def logits(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Masks of two pictures, of which one has two prompts and the other none."""
    random = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, 16, 16, generator=random).to(dtype), torch.zeros(0, 3, 16, 16, dtype=dtype)]


def values_of(masks: Tensor, size: tuple[int, int], inner: tuple[int, int] | None) -> Tensor:
    """The interpolated logits in float64, where SAM stretches twice and the others once."""
    masks = masks.double()
    if inner is not None:
        masks = F.interpolate(masks, (64, 64), mode="bilinear")[..., : inner[0], : inner[1]]
    return F.interpolate(masks, size, mode="bilinear")


@pytest.mark.parametrize("mask_threshold", [0.0, 0.3])
@pytest.mark.parametrize("which", range(4))
def test_masks_are_theirs(which, mask_threshold):
    processor, more = PROCESSORS[which]
    expected = processor.post_process_masks(logits()[:1], SIZES[:1], *(pair[:1] for pair in more), mask_threshold)
    with fast.accelerated():
        for sizes, inner in ((SIZES, more), (torch.tensor(SIZES), tuple(map(torch.tensor, more)))):
            found = processor.post_process_masks(logits(), sizes, *inner, mask_threshold)
            values = values_of(logits()[0], SIZES[0], INNER[0] if more else None)
            assert_same_masks(found[0], expected[0], values, mask_threshold)
            assert found[1].shape == (0, 3, *SIZES[1])
    options = {"pad_size": (64, 64), "mask_threshold": mask_threshold}
    inner = (INNER[0],) if more else ()
    assert torch.equal(fast.masks_in_picture(logits()[0], SIZES[0], *inner, **options), found[0])
    assert fast.masks_to_rles(logits()[0], SIZES[0], *inner, **options) == [encoded(masks) for masks in found[0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types(dtype):
    for processor, more in PROCESSORS:
        arguments = (logits(dtype)[:1], SIZES[:1], *(pair[:1] for pair in more))
        expected = processor.post_process_masks(*arguments)
        with fast.accelerated():
            found = processor.post_process_masks(*arguments)
        assert (found[0] != expected[0]).float().mean() < 2e-3  # theirs rounds what it interpolates to the dtype


def test_what_is_no_mask_of_a_known_kind_stays_theirs():
    for processor, more in PROCESSORS:
        sizes = (SIZES[:1], *(pair[:1] for pair in more))
        for masks, options in (
            (logits()[:1], {"binarize": False}),
            (logits(torch.float64)[:1], {}),
            ([logits()[0].numpy()], {}),
            (logits()[:1], {} if more else {"apply_non_overlapping_constraints": True}),
        ):
            expected = processor.post_process_masks(list(masks), *sizes, **options)
            with fast.accelerated():
                found = processor.post_process_masks(list(masks), *sizes, **options)
            assert found[0].dtype == expected[0].dtype
            assert (found[0] != expected[0]).sum() <= 2
        with fast.accelerated(), pytest.raises(TypeError, match="Input masks should be"):
            processor.post_process_masks([None], *sizes)
    with pytest.raises(ValueError, match=r"masks must be of shape \[\*, \*, \*, \*\], got \[3, 16, 16\]"):
        fast.masks_in_picture(logits()[0][0], (3, 4))


def test_restores_and_unknown_releases_are_left_alone(monkeypatch):
    def current():
        return [type(processor).post_process_masks for processor, _ in PROCESSORS]

    with fast.accelerated():
        assert all(ours is not theirs for ours, theirs in zip(current(), THEIRS, strict=True))
    assert current() == THEIRS
    owner = type(PROCESSORS[3][0])
    monkeypatch.setattr(owner, "post_process_masks", lambda *arguments: [~masks for masks in THEIRS[3](*arguments)])
    with pytest.raises(UserError, match=r"^transformers \d\S+ makes other masks in Sam3ImageProcessor than the known"):
        fast.accelerate()
    monkeypatch.delattr(owner, "post_process_masks")
    with pytest.raises(UserError, match=r"^transformers \d\S+ lacks 'post_process_masks' of the known release"):
        fast.accelerate()
    assert all(
        type(processor).post_process_masks is was
        for (processor, _), was in zip(PROCESSORS[:3], THEIRS[:3], strict=True)
    )


def test_the_page_runs_and_predicts_what_it_would(tmp_path, monkeypatch):
    """A whole SAM, small and of random weights."""
    vision = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_dim": 32, "image_size": 64}
    vision |= {"output_channels": 32, "num_pos_feats": 16, "window_size": 2, "global_attn_indexes": [0]}
    decoder = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_dim": 32}
    torch.manual_seed(0)
    prompts = {"hidden_size": 32, "image_size": 64, "image_embedding_size": 4}
    parts = {"vision_config": vision, "prompt_encoder_config": prompts, "mask_decoder_config": decoder}
    model = transformers.SamModel(transformers.SamConfig(**parts)).eval()
    image_processor = type(PROCESSORS[0][0])(size={"longest_edge": 64}, pad_size=PADDED)
    processor = transformers.SamProcessor(image_processor)
    monkeypatch.setattr(transformers.SamModel, "from_pretrained", lambda name: model)
    monkeypatch.setattr(transformers.SamProcessor, "from_pretrained", lambda name: processor)
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (97, 160, 3), dtype=np.uint8)).save("photo.jpg")
    names = run_example("transformers")
    (found,), (expected,) = names["masks"], image_processor.post_process_masks(names["logits"], *names["sizes"])
    assert found.shape == (1, 3, 97, 160)
    assert 0 < found.float().mean() < 1
    assert (found != expected).float().mean() < 1e-4
    assert [len(rles) for rles in names["rles"]] == [3]
