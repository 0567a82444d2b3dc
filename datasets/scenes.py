"""Synthetic scenes for detection: coloured shapes on textured ground, and proposals.

Made from a seed, nothing is downloaded. What an image holds depends on the seed, the
split and its number alone.
"""

import functools

import numpy as np
import tensorflow as tf

from ensemble_heads import detection

CLASSES = ("disc", "square", "triangle")
SPLITS = ("train", "test")
TARGETS = ("proposals", "objects")
MAX_OBJECTS = 4
PER_OBJECT = 5  # proposals made from each object's box

_HIDDEN = 0.5  # an object of which less is seen is difficult
_SIDES = (0.18, 0.45)  # of an object, relative to the image's


def load(
    split,
    data_dir=None,
    batch_size=16,
    *,
    seed=0,
    examples=None,
    image_size=64,
    proposals=32,
    targets="proposals",
):
    """Scenes as batches of images with proposals, and what is to be found in them.

    Every scene holds one to four shapes, which may hide each other. Proposals are
    copies of the objects' boxes that are shifted and stretched at random, and random
    boxes; how many differs between scenes, and boxes of no area fill up. A proposal
    learns the object that it overlaps most, from an intersection over union of 0.5 on
    (`eh.detection.assign_targets`); difficult objects are learned like all others.

    The training part comes in a new order in each iteration, the test part always in
    the same. Both keep a last batch that is smaller.

    Args:
        split: `"train"` or `"test"`.
        data_dir: None; here because every data set's `load` takes it.
        batch_size: int >= 1.
        seed: int >= 0, draws the scenes, and with TensorFlow's global seed the order.
        examples: int >= 1, number of scenes. Default: 400 for training, 200 to test.
        image_size: int >= 16, pixels along either side.
        proposals: int >= 20, places for proposals in each scene.
        targets: `"proposals"`, for training, or `"objects"`, for
            `eh.metrics.VOCMeanAveragePrecision`.

    Returns:
        `tf.data.Dataset` of `(inputs, targets)`. Inputs are a dict of `"image"`,
        float32 `[batch, image_size, image_size, 3]` in [0, 1], and `"proposals"`,
        float32 `[batch, proposals, 4]`, normalised (y1, x1, y2, x2). Targets are what
        `assign_targets` returns; or, of the objects, a dict of `"boxes"`, float32
        `[batch, 4, 4]`, `"classes"`, int32 `[batch, 4]`, places in `CLASSES` and -1
        for no object, and `"difficult"`, bool `[batch, 4]`, those of which less than
        half is seen.

    Raises:
        ValueError: an argument out of its range.
    """
    examples = _examples(split, examples)
    _check(split, data_dir, batch_size, seed, examples, image_size, proposals, targets)
    scenes = _scenes(split, seed, examples, image_size, proposals)
    dataset = tf.data.Dataset.from_tensor_slices(scenes)
    if split == "train":
        dataset = dataset.shuffle(examples, seed=seed)
    dataset = dataset.batch(batch_size)
    return dataset.map(functools.partial(_split, targets)).prefetch(tf.data.AUTOTUNE)


def _split(targets, scenes):
    """(inputs, targets) of a batch of scenes."""
    image = tf.cast(scenes.pop("image"), tf.float32) / 255.0
    proposals = scenes.pop("proposals")
    if targets == "proposals":
        objects = scenes["boxes"], scenes["classes"]
        scenes = detection.assign_targets(proposals, *objects)
    return {"image": image, "proposals": proposals}, scenes


@functools.lru_cache(maxsize=4)
def _scenes(split, seed, examples, image_size, proposals):
    """{name: array of all scenes}."""
    made = [
        _scene((seed, SPLITS.index(split), number), image_size, proposals)
        for number in range(examples)
    ]
    return {name: np.stack([one[name] for one in made]) for name in made[0]}


def _scene(seed, size, places):
    random = np.random.default_rng(seed)
    image = _ground(random, size)
    count = random.integers(1, MAX_OBJECTS + 1)
    boxes = np.zeros((MAX_OBJECTS, 4), np.float32)
    classes = np.full(MAX_OBJECTS, -1, np.int32)
    masks = np.zeros((MAX_OBJECTS, size, size), bool)
    for number in range(count):
        boxes[number] = _box(random, *_SIDES)
        classes[number] = random.integers(len(CLASSES))
        masks[number] = _shape(CLASSES[classes[number]], boxes[number], size)
        colour = random.uniform(0, 1, 3) + random.normal(0, 0.05, (size, size, 3))
        image = np.where(masks[number][..., np.newaxis], colour, image)
    return {
        "image": np.round(255 * np.clip(image, 0, 1)).astype(np.uint8),
        "proposals": _proposals(random, boxes[:count], places),
        "boxes": boxes,
        "classes": classes,
        "difficult": _difficult(masks, count),
    }


def _ground(random, size):
    """Waves of two colours in a random direction, and noise."""
    y, x = np.mgrid[:size, :size] / size
    angle, waves = random.uniform(0, np.pi), random.uniform(2, 8)
    phase = 2 * np.pi * waves * (np.cos(angle) * y + np.sin(angle) * x)
    share = (1 + np.sin(phase + random.uniform(0, 2 * np.pi)))[..., np.newaxis] / 2
    first, second = random.uniform(0.2, 0.8, (2, 3))
    noise = random.normal(0, 0.08, (size, size, 3))
    return share * first + (1 - share) * second + noise


def _box(random, least, most):
    """A box inside of the image, its sides in a range."""
    sides = random.uniform(least, most, 2)
    start = random.uniform(0, 1 - sides)
    return np.concatenate([start, start + sides]).astype(np.float32)


def _shape(kind, box, size):
    """bool `[size, size]`: the pixels of a shape that fills a box."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    y1, x1, y2, x2 = box
    across, down = (x - x1) / (x2 - x1) * 2 - 1, (y - y1) / (y2 - y1) * 2 - 1
    inside = np.maximum(np.abs(across), np.abs(down)) <= 1
    if kind == "disc":
        return across**2 + down**2 <= 1
    if kind == "triangle":
        return inside & (np.abs(across) <= (down + 1) / 2)
    return inside


def _difficult(masks, count):
    """bool `[objects]`: those of which later ones hide more than half."""
    seen = np.ones(len(masks))
    for number in range(count):
        hidden = masks[number] & masks[number + 1 :].any(axis=0)
        seen[number] -= hidden.sum() / max(masks[number].sum(), 1)
    return seen < _HIDDEN


def _proposals(random, boxes, places):
    """float32 `[places, 4]`: jittered boxes and random ones in random order, padded."""
    sides = boxes[:, 2:] - boxes[:, :2]
    centres = np.repeat((boxes[:, 2:] + boxes[:, :2]) / 2, PER_OBJECT, axis=0)
    sides = np.repeat(sides, PER_OBJECT, axis=0)
    centres = centres + sides * random.normal(0, 0.12, centres.shape)
    sides = sides * np.exp(random.normal(0, 0.15, sides.shape))
    near = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
    free = places - len(near)
    count = random.integers(free // 2, free + 1)
    others = [_box(random, 0.1, 0.6) for _ in range(count)]
    found = np.clip(np.concatenate([near, np.reshape(others, (-1, 4))]), 0, 1)
    padded = np.zeros((places, 4), np.float32)
    padded[: len(found)] = random.permutation(found)
    return padded


def _examples(split, examples):
    if examples is None:
        return 400 if split == "train" else 200
    return examples


def _check(split, data_dir, batch_size, seed, examples, image_size, proposals, targets):
    if data_dir is not None:
        raise ValueError(
            "`data_dir` must be left out: the scenes are made up. "
            f"Received: data_dir={data_dir!r}"
        )
    for name, value, known in (("split", split, SPLITS), ("targets", targets, TARGETS)):
        if value not in known:
            raise ValueError(
                f"`{name}` must be one of {known}. Received: {name}={value!r}"
            )
    for name, value, low in (
        ("batch_size", batch_size, 1),
        ("seed", seed, 0),
        ("examples", examples, 1),
        ("image_size", image_size, 16),
        ("proposals", proposals, MAX_OBJECTS * PER_OBJECT),
    ):
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not whole or value < low:
            raise ValueError(
                f"`{name}` must be an integer of at least {low}. "
                f"Received: {name}={value!r}"
            )
