"""Random changes of an image's colours, after Howard 2013, arXiv:1312.5402.

Contrast, brightness and colour are changed by random amounts, in a random order. What
changes the pixels are keras-cv's layers. The amounts are handed to them: their own come
from a generator with a state, and so would depend on which image was read when.
"""

import dataclasses

import tensorflow as tf

_KINDS = ("brightness", "contrast", "saturation", "hue")
COLOUR_NUMBERS = 2 * len(_KINDS)  # uniform numbers that an image takes
_RANGE = (0.0, 255.0)


@dataclasses.dataclass(frozen=True)
class Colours:
    """How much colours are changed, at most; 0 leaves a kind of change out.

    Howard changes contrast and colour by factors from 0.5 to 1.5, and no hue. His
    brightness is a factor as well; keras-cv's is added, and 32 grey levels are what
    public pipelines of the Inception family add.

    Attributes:
        brightness: b adds b to pixels, from -b to b of the range from black to white.
        contrast: c multiplies differences from the channel's mean by 1 - c to 1 + c.
        saturation: s multiplies saturation by 1 - s to 1 + s.
        hue: h turns hue by -h to h of a circle.

    Raises:
        ValueError: a value outside of [0, 1], or of [0, 0.5] for hue.
    """

    brightness: float = 32 / 255
    contrast: float = 0.5
    saturation: float = 0.5
    hue: float = 0.0

    def __post_init__(self):
        for kind in _KINDS:
            value, high = getattr(self, kind), 0.5 if kind == "hue" else 1.0
            if not 0 <= value <= high:
                raise ValueError(
                    f"`{kind}` must be in [0, {high:g}]. Received: {kind}={value}"
                )

    def changes(self):
        """Makes the layers that change one image at a time.

        Returns:
            Callable: image float32 `[height, width, 3]` from 0 to 255 and numbers
            float32 `[COLOUR_NUMBERS]`, uniform in [0, 1) -> image, as before.

        Raises:
            ImportError: keras-cv is not installed.
        """
        wanted = [kind for kind in _KINDS if getattr(self, kind)]
        kinds = {kind: _change_of(kind, getattr(self, kind)) for kind in wanted}

        def change(image, numbers):
            amounts, places = tf.unstack(tf.reshape(numbers, [2, len(_KINDS)]))
            own = [_KINDS.index(kind) for kind in wanted]
            amounts = 2.0 * tf.gather(amounts, own) - 1.0
            order = tf.argsort(tf.gather(places, own))
            images = image[tf.newaxis]
            for place in range(len(wanted)):
                branches = [
                    lambda images=images, change=one, amount=amounts[index]: (
                        tf.ensure_shape(change(images, amount), images.shape)
                    )
                    for index, one in enumerate(kinds.values())
                ]
                images = tf.switch_case(order[place], branches)
            return images[0]

        return change if wanted else lambda image, numbers: image


def _change_of(kind, strength):
    """Callable: images float32 `[1, …]` and an amount in [-1, 1) -> images."""
    layers = _keras_cv_layers()
    # A policy of mixed precision is the model's, not the input's.
    options = {"seed": 0, "dtype": "float32"}
    if kind == "brightness":
        layer = layers.RandomBrightness(strength, _RANGE, **options)
        scale = strength * (_RANGE[1] - _RANGE[0])
        return lambda images, amount: layer.augment_images(
            images, tf.reshape(scale * amount, [1, 1, 1, 1])
        )
    if kind == "contrast":
        layer = layers.RandomContrast(_RANGE, strength, **options)
        return lambda images, amount: layer.augment_images(
            images, tf.reshape(1.0 + strength * amount, [1, 1, 1, 1])
        )
    if kind == "saturation":
        layer = layers.RandomSaturation(0.5, **options)

        def saturate(images, amount):
            factor = tf.reshape(1.0 + strength * amount, [1])
            # The layer multiplies saturation by t / (1 - t).
            return layer.augment_images(images, factor / (1.0 + factor))

        return saturate
    layer = layers.RandomHue(strength, _RANGE, **options)
    return lambda images, amount: layer.augment_images(
        images, tf.reshape(strength * amount, [1])
    )


def _keras_cv_layers():
    try:
        from keras_cv import layers  # takes seconds, and many never need it
    except ImportError as error:
        raise ImportError(
            "Colours are changed by keras-cv, which is not installed: "
            "pip install keras-cv==0.9.0, or `colours=None`"
        ) from error
    return layers
