"""Views and the geometry between them: a mask cut to a view is the mask of what the view shows."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oapseg.shards.views import crop, cut_masks, draw_views, random_boxes


def _photo(height: int = 160, width: int = 240) -> torch.Tensor:
    """A photo whose red is the column and whose green is the row, so that every pixel tells its place."""
    x = torch.linspace(0, 255, width).expand(height, -1)
    y = torch.linspace(0, 255, height)[:, None].expand(-1, width)
    return torch.stack([x, y, torch.zeros_like(x)], -1).to(torch.uint8)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_a_local_view_shows_its_box_of_the_photo(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    views = draw_views(_photo(), whole_px=64, local_px=32, local_count=3, local_scale=(0.05, 0.4), generator=generator)
    assert views.whole.shape == (3, 64, 64)
    assert views.local.shape == (3, 3, 32, 32)
    for view, box, flipped in zip(views.local.float() / 255, views.boxes_xyxy, views.flipped, strict=True):
        x0, y0, x1, y1 = box.tolist()
        left, right = (x1, x0) if flipped else (x0, x1)
        expected_x = left + (right - left) * (torch.arange(32) + 0.5) / 32
        expected_y = y0 + (y1 - y0) * (torch.arange(32) + 0.5) / 32
        assert torch.allclose(view[0].mean(0), expected_x, atol=0.02)
        assert torch.allclose(view[1].mean(1), expected_y, atol=0.02)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_a_mask_cut_to_a_view_is_what_the_view_shows_of_it(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.zeros(1, 40, 40, dtype=torch.bool)
    mask[0, 8:30, 12:35] = True
    photo = mask[0].repeat_interleave(8, 0).repeat_interleave(8, 1)[..., None].expand(-1, -1, 3).to(torch.uint8) * 255
    views = draw_views(photo, whole_px=32, local_px=64, local_count=2, local_scale=(0.05, 0.4), generator=generator)
    for view, box, flipped in zip(views.local, views.boxes_xyxy, views.flipped, strict=True):
        shown = view[0] > 127
        cut = cut_masks(mask, box, flipped, 64)[0] > 0.5
        assert (shown ^ cut).float().mean() < 0.06


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_boxes_keep_to_their_share_and_inside_the_photo(seed: int) -> None:
    boxes = random_boxes(50, (0.05, 0.4), torch.Generator().manual_seed(seed))
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert (boxes >= 0).all()
    assert (boxes <= 1 + 1e-6).all()
    assert ((width * height > 0.05 - 1e-5) & (width * height < 0.4 + 1e-5)).all()


def test_the_whole_box_is_the_image_itself_and_its_flip_the_mirror_image() -> None:
    image = torch.rand(1, 2, 16, 16)
    box = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    assert torch.allclose(crop(image, box, torch.zeros(1), 16), image, atol=1e-5)
    assert torch.allclose(crop(image, box, torch.ones(1), 16), image.flip(3), atol=1e-5)


def test_a_photo_of_one_pixel_has_views() -> None:
    photo = torch.full((1, 1, 3), 7, dtype=torch.uint8)
    views = draw_views(
        photo, whole_px=8, local_px=8, local_count=2, local_scale=(0.05, 0.4), generator=torch.Generator()
    )
    assert (views.local == 7).all()
