import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_files import BROKEN, COLOUR, GREY, clear_left_half, encoded, noisy_jpeg, picture
from PIL import Image

from oapseg.shards.decode import decode
from oapseg.shards.upright import BrokenPhoto

MAX_PIXELS = 10_000


@pytest.mark.parametrize("make", COLOUR.values(), ids=COLOUR.keys())
def test_every_colour_file_comes_out_as_the_upright_picture(make):
    difference = decode(make(), MAX_PIXELS).numpy().astype(int) - np.asarray(picture()).astype(int)
    assert difference.shape == (32, 48, 3)
    assert np.abs(difference).mean() < 3
    assert np.median(np.abs(difference)) <= 3


@pytest.mark.parametrize("make", GREY.values(), ids=GREY.keys())
def test_every_grey_file_comes_out_as_three_equal_channels(make):
    expected = np.asarray(picture().convert("L")).astype(int)
    found = decode(make(), MAX_PIXELS).numpy().astype(int)
    assert (found == found[..., :1]).all()
    assert np.abs(found[..., 0] - expected).mean() < 2


def test_sixteen_bits_are_scaled_over_their_whole_range():
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(2, 0)
    found = decode(encoded(Image.fromarray(ramp), "PNG"))[0, :, 0].numpy()
    assert np.array_equal(found, np.arange(256))


def test_what_is_clear_shows_white_and_what_is_opaque_stays():
    found = decode(clear_left_half())
    assert (found[:, :24] == 255).all()
    assert found[20, 40].tolist() == [20, 20, 220]


@pytest.mark.parametrize(("data", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_says_why(data, reason):
    with pytest.raises(BrokenPhoto, match=reason):
        decode(data, MAX_PIXELS)


def test_too_many_pixels_are_refused_before_any_is_decoded(monkeypatch):
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("decoded"))
    with pytest.raises(BrokenPhoto, match="too many pixels"):
        decode(noisy_jpeg(size=(200, 100)), MAX_PIXELS)


@pytest.mark.filterwarnings("ignore")  # Pillow warns of much that is damaged
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_anywhere_gives_a_photo_or_a_reason_and_nothing_else(data):
    make = data.draw(st.sampled_from([*COLOUR.values(), *GREY.values()]))
    damaged = bytearray(make())
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    with contextlib.suppress(BrokenPhoto):
        assert decode(cut, MAX_PIXELS).shape[2] == 3


def test_a_programme_in_postscript_is_not_run():
    file = io.BytesIO()
    picture().save(file, "EPS")
    with pytest.raises(BrokenPhoto, match="not a photo"):
        decode(file.getvalue())
