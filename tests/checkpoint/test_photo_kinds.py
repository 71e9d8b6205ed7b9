"""Photos as people hold them: a Pillow image is its file, an array may be turned or read-only, all else is told."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from shards.photo_files import COLOUR, clear_left_half, encoded, picture, sixteen_bit_grey

from oapseg.checkpoint.model import in_batches, photo_tensor
from oapseg.shards.decode import decode

KINDS = COLOUR | {"clear left half": clear_left_half, "sixteen bit grey": sixteen_bit_grey}
PIXELS = np.asarray(picture())  # read-only, as Pillow gives it


@pytest.mark.parametrize("kind", KINDS)
def test_a_pillow_image_gives_the_pixels_of_its_file(kind: str) -> None:
    data = KINDS[kind]()
    assert torch.equal(photo_tensor(Image.open(io.BytesIO(data))), decode(data))


def test_a_pillow_image_stays_as_it_was() -> None:
    image = Image.open(io.BytesIO(KINDS["exif 6"]()))
    size = image.size
    assert photo_tensor(image).shape == (*size, 3)
    assert image.size == size
    assert torch.equal(photo_tensor(image), photo_tensor(image.copy()))


@pytest.mark.parametrize(
    "array", [PIXELS, PIXELS[::-1][::-1], PIXELS[..., ::-1].copy()[..., ::-1], np.asfortranarray(PIXELS)]
)
def test_an_array_gives_its_pixels_whatever_its_strides(array: np.ndarray) -> None:
    assert np.array_equal(photo_tensor(array).numpy(), PIXELS)
    assert np.array_equal(photo_tensor(array.transpose(2, 0, 1)).numpy(), PIXELS)
    assert np.array_equal(photo_tensor(array[..., 0]).numpy(), PIXELS[..., [0, 0, 0]])


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (None, "must be a path, a URL, a Pillow image, an array or a tensor, is NoneType"),
        ({}, "must be a path, a URL, a Pillow image, an array or a tensor, is dict"),
        (b"abc", "must be a path, a URL, a Pillow image, an array or a tensor, is bytes"),
        ([[1, 2], [3, 4]], "must be a path, a URL, a Pillow image, an array or a tensor, is list"),
        (np.array([None]), r"must be uint8 of shape H W 3, 3 H W or H W, is object of \(1,\)"),
        (PIXELS.astype(">u2"), r"must be uint8 of shape H W 3, 3 H W or H W, is >u2 of \(32, 48, 3\)"),
        (Image.new("F", (3, 2)), "grey of unknown range"),
        (Image.new("RGB", (0, 2)), r"must be uint8 of shape H W 3, 3 H W or H W, is torch.uint8 of \(2, 0, 3\)"),
        (Image.open(io.BytesIO(encoded(picture(), "JPEG")[:-90])), "truncated"),
    ],
)
def test_what_is_no_photo_is_told_by_its_place(image: object, said: str) -> None:
    with pytest.raises(ValueError, match=rf"^images\[1\]: {said}$"):
        list(in_batches([PIXELS, image], 8))


@pytest.mark.parametrize("images", [None, b"abc", PIXELS, torch.from_numpy(PIXELS.copy()), {}, picture()])
def test_one_photo_or_none_is_no_list_of_photos(images: object) -> None:
    with pytest.raises(ValueError, match=rf"^images: give a list of photos; is one {type(images).__name__}$"):
        list(in_batches(images, 8))


def test_photos_of_one_size_may_come_as_one_array() -> None:
    stacked = np.stack([PIXELS, PIXELS[::-1]])
    (found,) = in_batches(stacked, 2)
    assert [each.tolist() for each in found] == stacked.tolist()
