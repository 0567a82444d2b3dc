"""Windows and their pixels, against Pillow, NumPy and the definition."""

import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from datasets import imagenet_crops as crops
from tests.imagenet_files import encode, picture, pixels_of

pytestmark = [pytest.mark.slow, pytest.mark.line("2.15")]

# name: (mode of the picture, format, options)
KINDS = {
    "jpeg": ("RGB", "JPEG", {}),
    "full colour jpeg": ("RGB", "JPEG", {"subsampling": 0}),
    "progressive jpeg": ("RGB", "JPEG", {"progressive": True}),
    "grey jpeg": ("L", "JPEG", {}),
    "cmyk jpeg": ("CMYK", "JPEG", {}),
    "png": ("RGB", "PNG", {}),
    "palette png": ("P", "PNG", {}),
    "grey png with alpha": ("LA", "PNG", {}),
    "gif": ("P", "GIF", {}),
    "bmp": ("RGB", "BMP", {}),
    "bmp with alpha": ("RGBA", "BMP", {}),
}
_decode = tf.function(
    lambda encoded, window: crops.decode(encoded, lambda height, width: window)
)
_random_window = tf.function(crops.random_window)


def decode(encoded, top, left, height, width):
    window = tf.constant([top, left, height, width])
    return _decode(tf.constant(encoded), window).numpy()


def encoded_as(kind, height=90, width=121):
    mode, form, options = KINDS[kind]
    return encode(picture(1, height, width, mode), form, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("window", [(0, 0, 90, 121), (17, 33, 40, 51), (81, 98, 9, 23)])
def test_a_window_has_the_pixels_of_the_whole_image(kind, window):
    # The same libjpeg in TensorFlow and Pillow: to the bit, at the edges as well.
    encoded = encoded_as(kind)
    top, left, height, width = window
    expected = pixels_of(encoded)[top : top + height, left : left + width]
    found = decode(encoded, *window)
    np.testing.assert_array_equal(found, expected)
    assert expected.std() > 3  # there is something to see


@pytest.mark.parametrize("kind", ["jpeg", "grey jpeg", "png"])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (9, 2)])
def test_tiny_images_have_windows_of_both_kinds(kind, size):
    encoded = encoded_as(kind, *size)

    def made(window_of):
        return crops.resample(crops.decode(tf.constant(encoded), window_of), 8).numpy()

    for seed in range(5):
        draws = np.random.default_rng(seed).random(crops.WINDOW_NUMBERS, np.float32)
        image = made(lambda *size, draws=draws: crops.random_window(*size, draws))
        assert image.shape == (8, 8, 3)
        low, high = pixels_of(encoded).min() - 1e-3, pixels_of(encoded).max() + 1e-3
        assert low <= image.min() and image.max() <= high
    assert made(crops.centre_window).shape == (8, 8, 3)


@pytest.mark.parametrize("mode", ["P", "L"])
def test_a_bmp_with_a_palette_is_refused(mode):
    # TensorFlow would give the palette's numbers for grey levels.
    encoded = encode(picture(mode=mode), "BMP")
    with pytest.raises(tf.errors.InvalidArgumentError, match="24 or 32 bits"):
        decode(encoded, 0, 0, 3, 3)


def window_by_definition(height, width, numbers):
    """Top, left, height and width, by a loop in float64."""
    areas, aspects, tops, lefts = np.float64(numbers).reshape(4, -1)
    for area, aspect, top, left in zip(areas, aspects, tops, lefts):
        area = (0.08 + 0.92 * area) * height * width
        aspect = math.exp(
            math.log(3 / 4) + aspect * (math.log(4 / 3) - math.log(3 / 4))
        )
        wide, high = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if abs(wide % 1 - 0.5) < 1e-3 or abs(high % 1 - 0.5) < 1e-3:
            return None  # float32 may round it the other way
        wide, high = round(wide), round(high)
        if 0 < wide <= width and 0 < high <= height:
            spare = np.array([height - high + 1, width - wide + 1])
            corner = np.array([top, left]) * spare
            near = np.abs(corner - np.rint(corner)) < 1e-3
            return None if near.any() else (*corner.astype(int), high, wide)
    wide, high = round(min(width, height * 4 / 3)), round(min(height, width * 4 / 3))
    return ((height - high) // 2, (width - wide) // 2, high, wide)


@pytest.mark.parametrize("size", [(375, 500), (500, 333), (64, 64), (40, 900)])
def test_random_windows_are_those_of_the_definition(size):
    compared = 0
    for seed in range(300):
        draws = np.random.default_rng(seed).random(crops.WINDOW_NUMBERS, np.float32)
        expected = window_by_definition(*size, draws)
        if expected is not None:
            found = _random_window(*map(tf.constant, size), tf.constant(draws))
            assert tuple(found.numpy()) == expected
            compared += 1
    assert compared > 200


def test_area_and_aspect_are_distributed_as_defined():
    # A large square: rounding is nothing, and seven in ten first windows fit.
    side, random = 20_000, np.random.default_rng(7)
    draws = random.random((3000, crops.WINDOW_NUMBERS), np.float32)
    found = np.array(
        [
            _random_window(tf.constant(side), tf.constant(side), tf.constant(d))
            for d in draws
        ]
    )
    area = found[:, 2] / side * found[:, 3] / side
    aspect = np.log(found[:, 3] / found[:, 2])
    # Uniform numbers by another way: rejected until the window fits.
    areas = random.uniform(0.08, 1.0, 400_000)
    aspects = random.uniform(np.log(3 / 4), np.log(4 / 3), areas.size)
    longer = np.sqrt(areas * np.exp(np.abs(aspects)))
    fits = longer <= 1
    for values, expected in ((area, areas[fits]), (aspect, aspects[fits])):
        points = np.quantile(expected, np.linspace(0, 1, 51)[1:-1])
        shares = np.searchsorted(np.sort(values), points) / len(values)
        # Kolmogorov-Smirnov: beyond 1.63 / sqrt(n) once in a hundred.
        assert np.abs(shares - np.linspace(0, 1, 51)[1:-1]).max() < 1.63 / 3000**0.5
    # Places are uniform over those that are free.
    for begin, length in ((0, 2), (1, 3)):
        place = (found[:, begin] + 0.5) / (side - found[:, length] + 1)
        assert abs(place.mean() - 0.5) < 4 / (12 * 3000) ** 0.5


def test_where_no_window_fits_it_is_the_largest_in_the_middle():
    draws = tf.ones([crops.WINDOW_NUMBERS]) * 0.99
    tall = _random_window(tf.constant(1000), tf.constant(12), draws)
    assert tuple(tall.numpy()) == (492, 0, 16, 12)
    wide = _random_window(tf.constant(12), tf.constant(1000), draws)
    assert tuple(wide.numpy()) == (0, 492, 12, 16)


@pytest.mark.parametrize(
    "size, expected",
    [
        ((320, 480), (20, 100, 280, 280)),
        ((500, 375), (86, 23, 328, 328)),
        ((1, 9), (0, 4, 1, 1)),
    ],
)
def test_the_centre_window(size, expected):
    assert tuple(crops.centre_window(*map(tf.constant, size)).numpy()) == expected


def test_smooth_resizing_is_pillows():
    encoded = encode(picture(3, 320, 480), quality=95)
    window = (20, 100, 280, 280)
    found = crops.resample(decode(encoded, *window), 224, antialias=True)
    whole = Image.fromarray(pixels_of(encoded))
    square = whole.crop((100, 20, 380, 300))
    expected = square.resize((224, 224), Image.Resampling.BILINEAR)
    assert np.abs(found - np.float32(expected)).max() <= 1.01  # Pillow rounds twice
    # The usual two steps: the short side to 256, then 224 x 224 out of the middle. Only
    # at the edges do they see pixels that the window does not have.
    usual = whole.resize((384, 256), Image.Resampling.BILINEAR).crop((80, 16, 304, 240))
    inner = np.abs(found - np.float32(usual))[2:-2, 2:-2]
    assert inner.max() <= 1.01


def test_plain_resizing_is_bilinear_between_centres_of_pixels():
    pixels = pixels_of(encode(picture(4, 50, 70)))
    found = crops.resample(tf.constant(pixels), 32).numpy()
    rows, columns = ((np.arange(32) + 0.5) * size / 32 - 0.5 for size in (50, 70))

    def between(values, places):  # along the first axis
        low = np.clip(np.floor(places).astype(int), 0, len(values) - 1)
        high = np.clip(low + 1, 0, len(values) - 1)
        share = (places - np.floor(places))[:, None, None]
        return values[low] * (1 - share) + values[high] * share

    expected = between(pixels.astype(np.float64), rows).transpose(1, 0, 2)
    expected = between(expected, columns).transpose(1, 0, 2)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_shifted_windows_lie_anywhere():
    window = tf.function(crops.shifted_window)
    found = set()
    for top in np.linspace(0, np.nextafter(np.float32(1), 0), 9, dtype="float32"):
        numbers = np.full(crops.WINDOW_NUMBERS, top, "float32")
        numbers[1] = np.float32(1 - top) * np.float32(0.9999)
        found.add(tuple(window(10, 20, numbers, 0.8).numpy().tolist()))
    tops, lefts, heights, widths = map(set, zip(*found))
    assert (tops, lefts) == ({0, 1, 2}, {0, 1, 2, 3, 4})
    assert (heights, widths) == ({8}, {16})
    middle = crops.shifted_window(10, 20, None, 0.8).numpy().tolist()
    assert middle == [1, 2, 8, 16]
