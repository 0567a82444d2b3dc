"""Made-up images, one pattern per class under noise: for tests and smoke presets."""

import numpy as np

_BLOCKS = 4  # of a pattern, along either side
_CONTRAST = 8.0  # grey levels, standard deviation over a pattern: no model is perfect
_NOISE = 40.0


def make(
    image_shape,
    classes,
    examples,
    *,
    part,
    seed=0,
    contrast=_CONTRAST,
    noise=_NOISE,
):
    """Images that a linear model tells apart, and that mirroring does not change much.

    Parts of the same seed share the patterns of the classes, and no image. Every class
    has as many images, or one fewer.

    Args:
        image_shape: (height, width, channels).
        classes, examples: int >= 1.
        part: `"train"` or `"test"`.
        seed: int >= 0.
        contrast: float, grey levels, standard deviation over a class's pattern.
        noise: float, grey levels, standard deviation of each pixel.

    Returns:
        uint8 `[examples, height, width, channels]` and int64 `[examples]`.
    """
    height, width, channels = image_shape
    random = np.random.default_rng([seed, 0])
    blocks = random.normal(0.0, contrast, (classes, _BLOCKS, _BLOCKS, channels))
    blocks = (blocks + blocks[:, :, ::-1]) / np.sqrt(2.0)
    rows = np.arange(height) * _BLOCKS // height
    columns = np.arange(width) * _BLOCKS // width
    patterns = 128.0 + blocks[:, rows][:, :, columns]
    random = np.random.default_rng([seed, 1 if part == "train" else 2])
    labels = random.permutation(examples) % classes
    grain = random.normal(0.0, noise, (examples, *image_shape))
    images = np.clip(np.rint(patterns[labels] + grain), 0, 255).astype(np.uint8)
    return images, labels.astype(np.int64)
