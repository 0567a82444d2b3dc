"""Windows of images, and their pixels: only what a window shows is decoded.

Training windows have a random size and aspect ratio, as Szegedy et al. 2015
(arXiv:1409.4842, section 6) have them: between 8 % and 100 % of the image's area,
between 3/4 and 4/3 wide over high. Evaluation takes the middle of the image.
"""

import tensorflow as tf

AREA = (0.08, 1.0)  # share of the image
ASPECT = (3 / 4, 4 / 3)  # width by height
# An image whose short side is scaled to 256 pixels loses 16 on each side.
CENTRE_SHARE = 224 / 256

_ATTEMPTS = 10
WINDOW_NUMBERS = 4 * _ATTEMPTS  # uniform numbers that a window takes

_JPEG = b"\xff\xd8\xff"
_BMP = b"BM"
# As Pillow and libjpeg have it by default; the faster way gains nothing measurable.
_DCT = "INTEGER_ACCURATE"
_MARGIN = 2  # pixels


def random_window(height, width, numbers):
    """A window of random size, aspect ratio and place.

    The area is uniform, the logarithm of the aspect ratio too. The first of ten
    windows that fits into the image counts; where none does, it is the largest one in
    the middle whose aspect ratio is allowed.

    Args:
        height, width: int32 scalars, of the image.
        numbers: float32 `[WINDOW_NUMBERS]`, uniform in [0, 1).

    Returns:
        int32 `[4]`: top, left, height, width.
    """
    image = tf.stack([height, width])
    size = tf.cast(image, tf.float32)
    areas, aspects, tops, lefts = tf.unstack(tf.reshape(numbers, [4, _ATTEMPTS]))
    areas = (AREA[0] + (AREA[1] - AREA[0]) * areas) * size[0] * size[1]
    low, high = tf.unstack(tf.math.log(tf.constant(ASPECT)))
    aspects = tf.exp(low + (high - low) * aspects)
    sides = tf.sqrt(tf.stack([areas / aspects, areas * aspects], axis=1))
    sides = tf.cast(tf.round(sides), tf.int32)  # [attempts, 2]
    fits = tf.reduce_all((sides > 0) & (sides <= image), axis=1)
    first = tf.argmax(tf.cast(fits, tf.int32))  # 0 where none fits
    places = tf.stack([tops, lefts], axis=1)[first]
    free = tf.cast(image - sides[first] + 1, tf.float32)
    corner = tf.cast(tf.floor(places * free), tf.int32)
    # A product with a number just below 1 may be rounded up to all of `free`.
    corner = tf.minimum(corner, image - sides[first])
    window = tf.concat([corner, sides[first]], axis=0)
    return tf.where(tf.reduce_any(fits), window, _largest_window(height, width))


def centre_window(height, width, share=CENTRE_SHARE):
    """The square in the middle whose sides are that share of the short side."""
    short = tf.cast(tf.minimum(height, width), tf.float32)
    side = tf.maximum(1, tf.cast(tf.round(short * share), tf.int32))
    return _in_the_middle(height, width, side, side)


def shifted_window(height, width, numbers, share):
    """A window with that share of the image's height and of its width, anywhere.

    Caffe warps images to 256 x 256 pixels and cuts 224 or 227 of either side: this is
    the same with one resize.

    Args:
        height, width: int32 scalars, of the image.
        numbers: float32 `[WINDOW_NUMBERS]`, uniform in [0, 1), or None for the middle.
        share: float in (0, 1].

    Returns:
        int32 `[4]`: top, left, height, width.
    """
    image = tf.stack([height, width])
    sides = tf.cast(tf.round(tf.cast(image, tf.float32) * share), tf.int32)
    sides = tf.maximum(1, sides)
    if numbers is None:
        return _in_the_middle(height, width, *tf.unstack(sides))
    free = image - sides
    corner = tf.cast(tf.floor(numbers[:2] * tf.cast(free + 1, tf.float32)), tf.int32)
    return tf.concat([tf.minimum(corner, free), sides], axis=0)


def decode(encoded, window_of):
    """Pixels of one window of an encoded image.

    The content decides what it is, whatever the name says: JPEG (grey, YCbCr, RGB,
    CMYK, YCCK), PNG (also with a palette, alpha or 16 bits), GIF (its first frame) or
    BMP of 24 or 32 bits. Of a JPEG only the lines and columns around the window are
    decoded.

    Args:
        encoded: string scalar.
        window_of: callable (height, width) -> int32 `[4]`: top, left, height, width.

    Returns:
        uint8 `[height of the window, width of the window, 3]`, RGB.
    """

    def from_jpeg():
        height, width, _ = tf.unstack(tf.io.extract_jpeg_shape(encoded))
        window = window_of(height, width)
        # Colours at half the resolution are interpolated beyond the window's edge.
        start = tf.maximum(window[:2] - _MARGIN, 0)
        end = tf.minimum(window[:2] + window[2:] + _MARGIN, tf.stack([height, width]))
        pixels = tf.io.decode_and_crop_jpeg(
            encoded,
            tf.concat([start, end - start], axis=0),
            channels=3,
            dct_method=_DCT,
        )
        return _cut(pixels, window - tf.pad(start, [[0, 2]]))

    def from_other():
        pixels = _decode_other(encoded)
        return _cut(pixels, window_of(tf.shape(pixels)[0], tf.shape(pixels)[1]))

    pixels = tf.cond(_starts_with(encoded, _JPEG), from_jpeg, from_other)
    return tf.ensure_shape(pixels, [None, None, 3])


def decode_whole(encoded):
    """All pixels of an encoded image, uint8 `[height, width, 3]`."""
    return tf.cond(
        _starts_with(encoded, _JPEG),
        lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method=_DCT),
        lambda: _decode_other(encoded),
    )


def resample(pixels, image_size, antialias=False):
    """uint8 `[height, width, 3]` to float32 `[image_size, image_size, 3]`, 0 to 255."""
    images = tf.image.resize(
        pixels, [image_size, image_size], method="bilinear", antialias=antialias
    )
    return tf.ensure_shape(images, [image_size, image_size, 3])


def _largest_window(height, width):
    """The largest window in the middle whose aspect ratio is allowed."""
    high, wide = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    across = tf.cast(tf.round(tf.minimum(wide, high * ASPECT[1])), tf.int32)
    down = tf.cast(tf.round(tf.minimum(high, wide / ASPECT[0])), tf.int32)
    return _in_the_middle(height, width, down, across)


def _in_the_middle(height, width, down, across):
    return tf.stack([(height - down) // 2, (width - across) // 2, down, across])


def _cut(pixels, window):
    top, left, height, width = tf.unstack(window)
    return pixels[top : top + height, left : left + width]


def _decode_other(encoded):
    def bmp():
        pixels = tf.io.decode_bmp(encoded)
        # TensorFlow takes the numbers of a palette's colours for levels of grey.
        rule = "a BMP must have 24 or 32 bits in each pixel"
        enough = tf.debugging.assert_greater_equal(tf.shape(pixels)[-1], 3, rule)
        with tf.control_dependencies([enough]):
            return pixels[..., :3]

    return tf.cond(
        _starts_with(encoded, _BMP),
        bmp,
        lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
    )


def _starts_with(encoded, signature):
    return tf.strings.substr(encoded, 0, len(signature)) == signature
