"""YouTube-8M: what is read is what the protocol buffers hold, dequantised exactly."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from datasets import frame_draws, youtube8m
from datasets.youtube8m_records import dequantise
from ensemble_heads.keras_api import keras
from tests import youtube8m_protos as protos

pytestmark = [pytest.mark.slow, pytest.mark.line("2.21")]

SMALL = {"features": protos.FEATURES, "num_classes": protos.CLASSES, "with_ids": True}
WIDTH = sum(protos.FEATURES.values())

# Frames by arithmetic, by TensorFlow's parser, and through the checks in Python.
WAYS = [{}, {"verify_checksums": True}, {"skip_bad_records": True}]
ALL_WAYS = [*WAYS, {"skip_bad_records": True, "verify_checksums": True}]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("yt8m")
    protos.write_shards(folder, "train", [9, 4], frames=lambda number: 1 + 3 * number)
    return folder


@pytest.fixture(scope="module")
def truth(shards):
    return {k: v for path in shards.glob("*") for k, v in protos.read(path).items()}


def rows(dataset):
    """(frames, number, labels, id) of each video."""
    for inputs, labels, ids in dataset.as_numpy_iterator():
        yield from zip(inputs["frames"], inputs["num_frames"], labels, ids)


@pytest.mark.parametrize("way", [WAYS[0], WAYS[2]])
def test_all_frames_are_those_of_the_records_then_zero(shards, truth, way):
    seen = []
    for frames, number, labels, name in rows(
        youtube8m.load("train", shards, 4, shuffle=False, **SMALL, **way)
    ):
        expected, of_record = truth[name]
        np.testing.assert_array_equal(frames[:number], expected)
        assert number == len(expected)
        assert not frames[number:].any()
        np.testing.assert_array_equal(labels, protos.multi_hot(of_record))
        seen.append(name)
    assert sorted(seen) == sorted(truth)


def test_every_byte_is_dequantised_exactly():
    octets = np.arange(256, dtype=np.uint8).reshape(2, 128)
    values = dequantise(tf.constant(octets)).numpy()
    np.testing.assert_array_equal(values, protos.dequantised(octets))
    np.testing.assert_array_equal(values[0, 0], np.float32(4 / 512 - 2))


def test_frames_are_padded_to_the_longest_of_the_batch_and_capped(shards, truth):
    longest = []
    for inputs, _, ids in youtube8m.load(
        "train", shards, 4, shuffle=False, max_frames=10, **SMALL
    ).as_numpy_iterator():
        counts = [min(10, len(truth[name][0])) for name in ids]
        np.testing.assert_array_equal(inputs["num_frames"], counts)
        assert inputs["frames"].shape == (len(ids), max(counts), WIDTH)
        for frames, name in zip(inputs["frames"], ids):
            expected = truth[name][0][:10]
            np.testing.assert_array_equal(frames[: len(expected)], expected)
        longest.append(max(counts))
    assert max(longest) == 10


@pytest.mark.parametrize("frames", [None, 5])
def test_fixed_shapes_for_tpus(shards, frames):
    dataset = youtube8m.load(
        "train", shards, 4, random_frames=frames, max_frames=30, pad_to=32,
        drop_remainder=True, **SMALL,
    )  # fmt: skip
    inputs, labels, ids = dataset.element_spec
    assert inputs["frames"].shape == (4, 32, WIDTH)
    assert labels.shape == (4, protos.CLASSES) and ids.shape == (4,)
    batches = list(dataset.as_numpy_iterator())
    assert len(batches) == 3  # of 13 videos
    for inputs, _, _ in batches:
        behind = np.arange(32) >= inputs["num_frames"][:, None]
        assert not inputs["frames"][behind].any()
        assert inputs["frames"][~behind].any(axis=-1).all()


@pytest.mark.parametrize("way", ALL_WAYS)
def test_drawn_frames_are_frames_of_the_video(shards, truth, way):
    dataset = youtube8m.load("train", shards, 4, random_frames=6, **SMALL, **way)
    assert dataset.element_spec[0]["frames"].shape.as_list() == [None, 6, WIDTH]
    seen = []
    for frames, number, labels, name in rows(dataset):
        known = set(map(bytes, truth[name][0]))
        assert all(bytes(frame) in known for frame in frames)
        assert number == 6
        np.testing.assert_array_equal(labels, protos.multi_hot(truth[name][1]))
        seen.append(name)
    assert sorted(seen) == sorted(truth)


@pytest.mark.parametrize("way", ALL_WAYS[1:])
def test_every_way_of_reading_gives_the_same_batches(shards, way):
    chosen = {"random_frames": 6, "epochs": 3, "seed": 2, "shuffle_buffer": 5, **SMALL}
    expected = youtube8m.load("train", shards, 4, **chosen)
    found = youtube8m.load("train", shards, 4, **chosen, **way)
    assert_same(found, expected)


def test_each_real_frame_is_drawn_equally_often(tmp_path):
    path = protos.write(tmp_path / "train0.tfrecord", [protos.video(frames=7)])
    dataset = youtube8m.load(
        "train", files=path, random_frames=50, epochs=140, max_frames=5, **SMALL
    )
    ((known, _),) = protos.read(path).values()
    places = {bytes(frame): place for place, frame in enumerate(known)}
    drawn = [frames for frames, *_ in rows(dataset)]
    counts = collections.Counter(places[bytes(f)] for frames in drawn for f in frames)
    assert sorted(counts) == [0, 1, 2, 3, 4]  # max_frames hides the last two
    # 7000 draws: 1400 each, standard deviation 33.
    assert all(abs(count - 1400) < 170 for count in counts.values())
    # With replacement, and anew in each epoch.
    assert any(len(set(map(bytes, frames))) < 5 for frames in np.split(drawn[0], 10))
    assert len({frames.tobytes() for frames in drawn}) == 140


def test_draws_are_uniform_independent_and_the_same_in_numpy_and_tensorflow():
    many = np.arange(20_000)
    key = np.full(many.shape, frame_draws.file_key("train0000.tfrecord"))
    arguments = (3, np.full(many.shape, 300), 5, np.zeros_like(many), key, many)
    drawn = frame_draws.draw(*arguments)
    np.testing.assert_array_equal(drawn, frame_draws.draw(*arguments, graph=True))
    counts = np.bincount(drawn.ravel(), minlength=300)
    assert len(counts) == 300 and abs(counts - 200).max() < 6 * np.sqrt(200)
    correlations = np.corrcoef(np.concatenate([drawn, np.roll(drawn, 1, axis=0)], 1).T)
    assert abs(correlations - np.eye(6)).max() < 0.04  # 1 / sqrt(20000) = 0.007
    for place in range(2, 6):  # another seed, epoch, file or record: other frames
        changed = list(arguments)
        changed[place] = changed[place] + 1
        assert (frame_draws.draw(*changed) == drawn).mean() < 0.02


def test_frames_depend_on_the_record_only(shards, tmp_path):
    """Not on batches, order, workers, or which folder the files are in."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in shards.glob("*"):
        (elsewhere / path.name).write_bytes(path.read_bytes())
    frames = {"random_frames": 6, "seed": 3, **SMALL}
    one = {r[3]: r[0] for r in rows(youtube8m.load("train", shards, 4, **frames))}
    two = {
        r[3]: r[0]
        for worker in range(3)
        for r in rows(
            youtube8m.load(
                "train", elsewhere, 5, shuffle=False, shard=(worker, 3), **frames
            )
        )
    }
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


def test_video_level(tmp_path):
    random = np.random.default_rng(1)
    values = {n: random.normal(size=(5, z)) for n, z in protos.FEATURES.items()}
    records = [
        tf.train.Example(
            features=tf.train.Features(
                feature={
                    "id": protos.feature(f"v{i}".encode()),
                    "labels": protos.feature([i, 0]),
                    **{f"mean_{n}": protos.feature(v[i]) for n, v in values.items()},
                }
            )
        )
        for i in range(5)
    ]
    path = protos.write(tmp_path / "validate00.tfrecord", records)
    for way in ({}, {"skip_bad_records": True}):
        dataset = youtube8m.load(
            "validate", files=path, batch_size=5, level="video", **SMALL, **way
        )
        ((inputs, labels, ids),) = dataset.as_numpy_iterator()
        expected = np.concatenate([values["rgb"], values["audio"]], axis=1)
        np.testing.assert_array_equal(inputs["features"], expected.astype(np.float32))
        np.testing.assert_array_equal(
            labels, [protos.multi_hot({i, 0}) for i in range(5)]
        )
        assert list(ids) == [b"v0", b"v1", b"v2", b"v3", b"v4"]


def test_test_shards_have_no_labels(tmp_path):
    protos.write(tmp_path / "test0000.tfrecord", [protos.video(labels=None)])
    for frames in (None, 3):
        _, labels, _ = next(
            iter(youtube8m.load("test", tmp_path, random_frames=frames, **SMALL))
        )
        assert labels.shape == (1, protos.CLASSES) and not labels.numpy().any()


def segment_file(tmp_path):
    rated = {
        "segment_start_times": [0, 10, 10, 20],
        "segment_end_times": [5, 15, 15, 25],
        "segment_labels": [3, 3, 5, 0],
        "segment_scores": [1.0, 0.0, 1.0, 1.0],
    }
    none = {name: np.array(values)[:0] for name, values in rated.items()}
    records = [
        protos.video("a", frames=23, **rated),
        protos.video("b", frames=9),
        protos.video("c", frames=9, **none),
        protos.video("d", frames=30, **{k: v[3:] for k, v in rated.items()}),
    ]
    return protos.write(tmp_path / "validate0000.tfrecord", records)


@pytest.mark.parametrize("way", [{}, {"skip_bad_records": True}])
def test_segments(tmp_path, way):
    path = segment_file(tmp_path)
    dataset = youtube8m.load(
        "validate", files=path, batch_size=3, level="segment", **SMALL, **way
    )
    elements = list(rows(dataset))
    assert [name for *_, name in elements] == [b"a", b"a", b"a", b"d"]
    starts, truth = [0, 10, 20, 20], protos.read(path)
    for (frames, number, _, name), start in zip(elements, starts):
        expected = truth[name][0][start : start + 5]
        np.testing.assert_array_equal(frames[:number], expected)
        assert number == len(expected) and frames.shape == (5, WIDTH)
        assert not frames[number:].any()
    assert [number for _, number, *_ in elements] == [5, 5, 3, 5]
    unrated = youtube8m.UNRATED
    expected = np.full([4, 7], unrated)
    expected[0, 3], expected[1, 3], expected[1, 5] = 1, 0, 1
    expected[2, 0] = expected[3, 0] = 1
    np.testing.assert_array_equal([labels for _, _, labels, _ in elements], expected)


def test_a_model_learns_segments_with_the_loss_over_rated_classes(tmp_path):
    path = segment_file(tmp_path)
    dataset = youtube8m.load(
        "validate", files=path, batch_size=4, level="segment",
        features=protos.FEATURES, num_classes=protos.CLASSES,
    )  # fmt: skip
    frames = keras.Input((5, WIDTH), name="frames")
    number = keras.Input((), dtype="int32", name="num_frames")
    scores = keras.layers.Dense(protos.CLASSES, activation="sigmoid")(
        keras.layers.Flatten()(frames)
    )
    model = keras.Model({"frames": frames, "num_frames": number}, scores)
    model.compile(keras.optimizers.Adam(0.05), loss=youtube8m.rated_crossentropy)
    ((inputs, labels),) = dataset
    predicted = model(inputs).numpy()
    labels = labels.numpy()
    rated = labels >= 0
    terms = labels * np.log(predicted) + (1 - labels) * np.log(1 - predicted)
    expected = [-terms[i][rated[i]].mean() for i in range(4)]
    losses = youtube8m.rated_crossentropy(labels, tf.constant(predicted))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    sure = tf.constant([[1.0, 0.0]], "bfloat16")
    none = youtube8m.rated_crossentropy(tf.constant([[1.0, 0.0]]), sure)
    np.testing.assert_allclose(none, [0.0], atol=1e-6)
    before = model.evaluate(dataset, verbose=0)
    assert before == pytest.approx(np.mean(expected), rel=1e-4)
    model.fit(dataset, epochs=20, verbose=0)
    assert model.evaluate(dataset, verbose=0) < before / 4


def test_the_real_record(data_dir):
    path = str(data_dir / "yt8m" / "real_one_video.tfrecord")
    ((inputs, labels, ids),) = youtube8m.load("train", files=path, with_ids=True)
    assert inputs["num_frames"].numpy() == [170]
    assert inputs["frames"].shape == (1, 170, 1152)
    assert np.flatnonzero(labels[0]).tolist() == [11]
    ((name, (expected, _)),) = protos.read(path).items()
    np.testing.assert_array_equal(inputs["frames"][0], expected)
    assert ids.numpy() == [name]
    ways = [
        next(iter(youtube8m.load("train", files=path, random_frames=25, **way)))[0]
        for way in WAYS
    ]
    for inputs in ways:
        np.testing.assert_array_equal(inputs["frames"], ways[0]["frames"])


def assert_same(found, expected):
    found, expected = list(found), list(expected)
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected):
        for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other)):
            np.testing.assert_array_equal(a, b)
