"""Batches of images: order, restarts, workers, windows, from files and from shards."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from datasets import frame_draws, imagenet, imagenet_crops, imagenet_decoder
from tests.imagenet_files import CLASSES, pixels_of, write_shards, write_tree

pytestmark = [pytest.mark.slow, pytest.mark.line("2.15")]

SMALL = {"num_classes": 3, "image_size": 8, "shuffle_buffer": 5}
SOURCES = ("files", "records")
COUNT = 13
MEAN = [123.675, 116.28, 103.53]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {source: tmp_path_factory.mktemp(source) for source in SOURCES}
    write_tree(made["files"])
    write_shards(made["records"])
    write_shards(made["records"], split="validation")
    write_tree(made["files"], below="val")
    return made


def load(folder, split="train", batch_size=5, **changes):
    changes = {"numbered": True, "colours": None, **SMALL, **changes}
    return imagenet.load(split, folder, batch_size, **changes)


def numbers(dataset):
    return [list(inputs["number"].numpy()) for inputs, _ in dataset]


def flat(batches):
    return [number for batch in batches for number in batch]


def assert_same(found, expected):
    found = list(found)
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected):
        for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other)):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("source", SOURCES)
def test_an_epoch_is_a_new_order_and_new_windows_of_all_images(folders, source):
    elements = list(load(folders[source], epochs=2, seed=1))
    batches = numbers(elements)
    assert [len(batch) for batch in batches] == [5, 5, 3] * 2
    first, second = flat(batches[:3]), flat(batches[3:])
    assert len(set(first)) == COUNT and sorted(first) == sorted(second)
    assert first != second and first != sorted(first)
    images = [{}, {}]
    for index, (inputs, _) in enumerate(elements):
        seen = zip(inputs["number"].numpy(), inputs["images"].numpy())
        images[index // 3].update(seen)
    differ = [np.abs(images[0][n] - images[1][n]).max() > 0.1 for n in first]
    assert sum(differ) > 10


@pytest.mark.parametrize("source", SOURCES)
def test_labels_are_those_of_folders_and_records(folders, source):
    for inputs, labels in load(folders[source]):
        assert labels.dtype == tf.int64
        for number, label in zip(inputs["number"].numpy(), labels.numpy()):
            file = number >> 32
            expected = np.searchsorted([4, 7, 13], file, "right")
            assert label == (file if source == "records" else expected)


@pytest.mark.parametrize("source", SOURCES)
def test_images_follow_from_seed_and_epoch_alone(folders, source):
    def images(global_seed=1, split="train", **changes):
        tf.random.set_seed(global_seed)
        found = {}
        changes = {"colours": imagenet.Colours(), **changes}
        for inputs, _ in load(folders[source], split, **changes):
            for number, image in zip(inputs["number"].numpy(), inputs["images"]):
                found[number] = image.numpy()
        return found

    first, others = images(), images(2, batch_size=4, shuffle=False)
    assert first.keys() == others.keys()
    for number, image in first.items():
        np.testing.assert_array_equal(image, others[number])
    reseeded = images(seed=9)
    assert sum(np.abs(first[n] - reseeded[n]).max() > 0.1 for n in first) > 10


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("way", [{}, {"drop_remainder": True}])
def test_a_restart_goes_on_exactly(folders, source, way):
    chosen = {"seed": 3, "epochs": 3, **way}
    whole = list(load(folders[source], **chosen))
    size = 2 if way else 3
    assert len(whole) == 3 * size
    assert_same(load(folders[source], start_batch=4, **chosen), whole[4:])
    place = {"start_epoch": 1, "start_batch": size + 1}
    assert_same(load(folders[source], **place, **chosen), whole[2 * size + 1 :])
    assert not list(load(folders[source], start_batch=3 * size, **chosen))
    endless = load(folders[source], **{**chosen, "epochs": None}, start_batch=size)
    assert_same(endless.take(2 * size), whole[size:])


@pytest.mark.parametrize("source", SOURCES)
def test_leaving_out_bad_images_changes_nothing_where_there_are_none(folders, source):
    chosen = {"seed": 3, "epochs": 2}
    whole = list(load(folders[source], **chosen))
    checked = load(folders[source], skip_bad_records=True, start_batch=4, **chosen)
    assert_same(checked, whole[4:])


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("workers", [2, 5])  # of three shards
@pytest.mark.parametrize("split", imagenet.SPLITS)
def test_workers_share_all_images(folders, source, workers, split):
    shares = [
        flat(numbers(load(folders[source], split, shard=(index, workers))))
        for index in range(workers)
    ]
    assert len(set(flat(shares))) == len(flat(shares)) == COUNT
    assert all(shares)


def test_workers_batches_of_files_are_those_of_one_device(folders):
    chosen = {"drop_remainder": True, "epochs": 3}  # one of 13 images is left over
    parts = [
        numbers(load(folders["files"], batch_size=1, shard=(n, 2), **chosen))
        for n in range(2)
    ]
    whole = numbers(load(folders["files"], batch_size=2, **chosen))
    assert [sorted(flat(both)) for both in zip(*parts, strict=True)] == [
        sorted(batch) for batch in whole
    ]


@pytest.mark.parametrize("source", SOURCES)
def test_evaluation_sees_every_image_once_in_order(folders, source):
    first, again = (list(load(folders[source], "validation")) for _ in range(2))
    assert [len(labels) for _, labels in first] == [5, 5, 3]
    assert_same(again, first)
    assert flat(numbers(first)) == sorted(flat(numbers(first)))


@pytest.mark.parametrize("source", SOURCES)
def test_shapes_are_static_where_batches_are_full(folders, source):
    def images(**changes):
        dataset = load(folders[source], image_size=12, numbered=False, **changes)
        assert all(image.shape[1:] == (12, 12, 3) for image, _ in dataset)
        return [spec.shape for spec in dataset.element_spec]

    assert images(drop_remainder=True) == [(5, 12, 12, 3), (5,)]
    assert [shape[0] for shape in images()] == [None, None]


def test_training_images_are_windows_that_the_draws_name(folders):
    files = sorted((folders["files"] / "train").glob("*/*"))
    mirrored = collections.Counter()
    for inputs, _ in load(
        folders["files"], seed=4, start_epoch=6, epochs=7, pixels="unit"
    ):
        for number, image in zip(inputs["number"].numpy(), inputs["images"].numpy()):
            path = files[number >> 32]
            key = frame_draws.file_key(f"{path.parent.name}/{path.name}")
            draws = frame_draws.draw(
                imagenet_decoder.DRAWS, [1 << 24], 4, [6], [key], [0]
            )
            draws = (draws[0] / (1 << 24)).astype(np.float32)
            pixels = pixels_of(path.read_bytes())
            place = imagenet_crops.random_window(
                *map(tf.constant, pixels.shape[:2]),
                tf.constant(draws[: imagenet_crops.WINDOW_NUMBERS]),
            )
            top, left, height, width = place.numpy()
            window = pixels[top : top + height, left : left + width]
            expected = tf.image.resize(window, [8, 8]).numpy() / 255
            turn = draws[imagenet_crops.WINDOW_NUMBERS] >= 0.5
            mirrored[turn] += 1
            expected = expected[:, ::-1] if turn else expected
            np.testing.assert_allclose(image, expected, atol=1e-5)
    assert mirrored[True] and mirrored[False]


def test_evaluation_images_are_the_middle_and_scaled(folders):
    files = sorted((folders["files"] / "val").glob("*/*"))
    scales = {
        "standardised": lambda x: (x - MEAN) / [58.395, 57.12, 57.375],
        "centred": lambda x: x - MEAN,
        "unit": lambda x: x / 255,
    }
    assert set(scales) == set(imagenet.PIXELS)
    for pixels, scale in scales.items():
        chosen = {"pixels": pixels, "share": 0.5, "numbered": False}
        ((images, _),) = load(folders["files"], "validation", 20, **chosen)
        for path, image in zip(files, images):
            whole = pixels_of(path.read_bytes())
            height, width, _ = whole.shape
            side = round(min(height, width) * 0.5)
            top, left = (height - side) // 2, (width - side) // 2
            window = whole[top : top + side, left : left + side]
            expected = scale(tf.image.resize(window, [8, 8]).numpy())
            np.testing.assert_allclose(image, expected, atol=1e-3)


def test_shifted_windows_are_a_share_of_either_side(folders):
    chosen = {"pixels": "unit", "share": 0.5, "windows": "shifted", "numbered": False}
    files = sorted((folders["files"] / "val").glob("*/*"))
    ((images, _),) = load(folders["files"], "validation", 20, **chosen)
    for path, image in zip(files, images):
        whole = pixels_of(path.read_bytes())
        sides = [round(n * 0.5) for n in whole.shape[:2]]
        top, left = ((n - side) // 2 for n, side in zip(whole.shape[:2], sides))
        window = whole[top : top + sides[0], left : left + sides[1]]
        expected = tf.image.resize(window, [8, 8]).numpy() / 255
        np.testing.assert_allclose(image, expected, atol=1e-5)


def test_two_devices_see_every_image_once(folders, run_on_two_devices):
    source = """
        import sys
        import ensemble_heads as eh
        from datasets import imagenet
        folder = sys.argv[1]
        strategy = eh.strategy("mirrored")
        options = dict(num_classes=3, image_size=8, numbered=True, colours=None)

        def of_worker(context):
            share = (context.input_pipeline_id, context.num_input_pipelines)
            size = context.get_per_replica_batch_size(6)
            return imagenet.load("validation", folder, size, shard=share, **options)

        whole = imagenet.load("validation", folder, 6, **options)
        result = []
        for dataset in (
            strategy.distribute_datasets_from_function(of_worker),
            strategy.experimental_distribute_dataset(whole),
        ):
            seen = []
            for inputs, _ in dataset:
                for part in strategy.experimental_local_results(inputs["number"]):
                    seen += part.numpy().tolist()
            result.append(seen)
        """
    for seen in run_on_two_devices(source, folders["records"]):
        assert len(seen) == len(set(seen)) == COUNT


def test_class_names_choose_folders_and_their_numbers(folders):
    chosen = {"num_classes": 2, "class_names": [CLASSES[2], CLASSES[0]]}
    found = flat(labels.numpy() for _, labels in load(folders["files"], **chosen))
    assert collections.Counter(found) == {0: 6, 1: 4}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"split": "test"}, r"`split` must be one of .*split='test'"),
        ({"pixels": "raw"}, r"`pixels` must be one of"),
        ({"source": "http"}, r"`source` must be one of"),
        ({"batch_size": 0}, r"`batch_size` must be at least 1"),
        ({"batch_size": 14, "drop_remainder": True}, r"at most the 13 images"),
        ({"image_size": 0}, r"`image_size` must be at least 1"),
        ({"shard": (2, 2)}, r"`shard` must be"),
        ({"share": 0}, r"`share` must be in \(0, 1\]"),
        ({"windows": "square"}, "`windows` must be one of"),
        ({"files": "x", "source": "files"}, r"`files` must be left out"),
        ({"image_list": "x", "source": "records"}, r"`files` must be left out"),
        ({"files": "x", "class_names": "y"}, r"`files` must be left out"),
    ],
)
def test_arguments_out_of_range(folders, changes, message):
    with pytest.raises(ValueError, match=message):
        load(folders["files"], **changes)
