"""Synthetic scenes: what is in them is what is said of them, and the seed decides."""

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

from datasets import scenes
from tests import numpy_detection as oracle


def arrays(dataset):
    """(inputs, targets) of a whole data set as NumPy arrays."""
    batches = [tf.nest.map_structure(np.array, batch) for batch in dataset]
    return tf.nest.map_structure(lambda *parts: np.concatenate(parts), *batches)


def load(split="test", **options):
    options = {"examples": 30, "image_size": 32, "proposals": 24, **options}
    return scenes.load(split, **options)


@pytest.fixture(scope="module")
def objects():
    return arrays(load(targets="objects"))


@pytest.fixture(scope="module")
def targets():
    return arrays(load())


def test_specs_are_those_of_the_docstring():
    inputs, targets = load().element_spec
    assert inputs == {
        "image": tf.TensorSpec((None, 32, 32, 3), tf.float32),
        "proposals": tf.TensorSpec((None, 24, 4), tf.float32),
    }
    assert targets == {
        "classes": tf.TensorSpec((None, 24), tf.int32),
        "boxes": tf.TensorSpec((None, 24, 5), tf.float32),
    }
    assert load("train", targets="objects").element_spec[1] == {
        "boxes": tf.TensorSpec((None, 4, 4), tf.float32),
        "classes": tf.TensorSpec((None, 4), tf.int32),
        "difficult": tf.TensorSpec((None, 4), tf.bool),
    }


def test_the_same_seed_gives_the_same_scenes(targets):
    scenes._scenes.cache_clear()
    for one, other in zip(
        tf.nest.flatten(arrays(load(batch_size=7))), tf.nest.flatten(targets)
    ):
        npt.assert_array_equal(one, other)


def test_a_scene_depends_on_its_number_alone(targets):
    more = arrays(load(examples=31))
    npt.assert_array_equal(more[0]["image"][:30], targets[0]["image"])


@pytest.mark.parametrize("options", [{"seed": 1}, {"split": "train"}])
def test_other_seeds_and_splits_share_no_scene(targets, options):
    images = arrays(load(**options))[0]["image"].reshape(30, -1)
    known = targets[0]["image"].reshape(30, -1)
    assert np.abs(images[:, None] - known).max(axis=-1).min() > 0.1


def test_training_comes_in_a_new_order_each_time():
    dataset = load("train")
    first, second = (arrays(dataset)[0]["image"] for _ in range(2))
    assert (first != second).any()
    npt.assert_allclose(np.sort(first.sum((1, 2, 3))), np.sort(second.sum((1, 2, 3))))


def test_objects_are_seen_where_their_boxes_are(objects):
    """What lies in the middle of a shape that nothing hides is of one colour."""
    inputs, told = objects
    counts = (told["classes"] >= 0).sum(axis=1)
    assert set(counts) == {1, 2, 3, 4} and set(told["classes"].ravel()) == {-1, 0, 1, 2}
    assert 0.02 < told["difficult"].sum() / counts.sum() < 0.3
    for image, boxes, count in zip(inputs["image"], told["boxes"], counts):
        assert not boxes[count:].any()
        last = boxes[count - 1]  # nothing hides it
        y, x = (last[:2] + last[2:]) / 2 * 32
        patch = image[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2].reshape(-1, 3)
        assert patch.std(axis=0).max() < 0.2
        assert 0 <= boxes.min() <= boxes.max() <= 1


def test_shapes_have_their_areas():
    box = np.array([0.1, 0.2, 0.7, 0.9])
    areas = {"disc": np.pi / 4, "square": 1, "triangle": 0.5}
    for kind, share in areas.items():
        mask = scenes._shape(kind, box, 200)
        assert mask.mean() == pytest.approx(0.6 * 0.7 * share, rel=0.02)
        rows, columns = np.nonzero(mask)
        edges = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
        npt.assert_allclose(np.array(edges) / 200, box, atol=0.02)


def test_hidden_objects_are_difficult():
    masks = np.zeros((4, 4, 4), bool)
    masks[0, 0], masks[1, 0, :2], masks[2, 0, 2], masks[3] = True, True, True, False
    # 3 of the first one's 4 pixels lie under later ones; of the others' none
    npt.assert_array_equal(scenes._difficult(masks, 3), [True, False, False, False])


def test_proposals_are_padded_and_learn_what_they_overlap(objects, targets):
    inputs, learned = targets
    told, proposals = objects[1], inputs["proposals"]
    npt.assert_array_equal(objects[0]["proposals"], proposals)
    padding = ~proposals.any(axis=-1)
    counts = (told["classes"] >= 0).sum(axis=1)
    assert 0.1 < padding.mean() < 0.5
    npt.assert_array_equal(learned["classes"] == -1, padding)
    npt.assert_array_equal(learned["boxes"][..., 0], learned["classes"])
    for i, j in zip(*np.nonzero(~padding)):
        overlaps = [oracle.overlap(proposals[i, j], b) for b in told["boxes"][i]]
        best = int(np.argmax(overlaps))
        found = told["classes"][i, best] + 1 if overlaps[best] >= 0.5 else 0
        assert learned["classes"][i, j] == found
    near = (learned["classes"] > 0).sum(axis=1)
    assert (near >= counts).mean() > 0.9  # nearly every object has proposals


def test_every_scene_comes_once():
    sizes = [len(y["classes"]) for _, y in load("train", examples=33, batch_size=8)]
    assert sizes == [8, 8, 8, 8, 1]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"split": "valid"}, "`split` must be one of"),
        ({"targets": "boxes"}, "`targets` must be one of"),
        ({"data_dir": "there"}, "`data_dir` must be left out"),
        ({"batch_size": 0}, "`batch_size` must be an integer of at least 1"),
        ({"seed": -1}, "`seed` must be an integer of at least 0"),
        ({"examples": 2.5}, "`examples` must be an integer of at least 1"),
        ({"image_size": 8}, "`image_size` must be an integer of at least 16"),
        ({"proposals": 19}, "`proposals` must be an integer of at least 20"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        load(**options)
