"""Made-up shards: the real format, the same bytes for the same seed, and learnable."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from datasets import synthetic, youtube8m
from tests import youtube8m_protos as protos

SMALL = {"features": protos.FEATURES, "num_classes": protos.CLASSES}


def digests(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in Path(folder).iterdir()
    }


@pytest.mark.parametrize("level", youtube8m.LEVELS)
def test_same_arguments_same_bytes(tmp_path, level):
    def written(folder, seed):
        synthetic.write_youtube8m(
            tmp_path / folder, "train", 2, 5, seed, level=level, **SMALL
        )
        return digests(tmp_path / folder)

    first = written("a", 1)
    assert sorted(first) == ["train0000.tfrecord", "train0001.tfrecord"]
    assert written("b", 1) == first
    other = written("c", 2)
    assert len({*first.values(), *other.values()}) == 4


def test_the_bytes_are_those_of_protocol_buffers(tmp_path):
    (path,) = synthetic.write_youtube8m(tmp_path, "validate", 1, 40, 3)
    counts, ids = [], set()
    for raw in tf.data.TFRecordDataset(path).as_numpy_iterator():
        record = tf.train.SequenceExample.FromString(raw)
        # Nothing in it that TensorFlow does not know of: of the same length again.
        assert len(record.SerializeToString()) == len(raw)
        context = record.context.feature
        assert set(context) == {"id", "labels"}
        labels = list(context["labels"].int64_list.value)
        assert labels == sorted(set(labels)) and 1 <= len(labels) <= 4
        assert 0 <= labels[0] and labels[-1] < 3862
        ids.add(context["id"].bytes_list.value[0])
        lists = record.feature_lists.feature_list
        sizes = {
            name: {len(f.bytes_list.value[0]) for f in lists[name].feature}
            for name in lists
        }
        assert sizes == {"rgb": {1024}, "audio": {128}}
        assert len(lists["rgb"].feature) == len(lists["audio"].feature)
        counts.append(len(lists["rgb"].feature))
    assert len(ids) == 40
    assert min(counts) < 16 and max(counts) == 300 and counts.count(300) > 4


def test_levels_have_the_element_spec_and_form_of_the_real_data(tmp_path, data_dir):
    path = str(data_dir / "yt8m" / "real_one_video.tfrecord")
    (made,) = synthetic.write_youtube8m(tmp_path, "train", 1, 1)
    for frames in (None, 25):
        real, twin = (
            youtube8m.load("train", files=files, random_frames=frames)
            for files in (path, made)
        )
        assert real.element_spec == twin.element_spec

    def form(file):
        raw = next(tf.data.TFRecordDataset(file).as_numpy_iterator())
        record = tf.train.SequenceExample.FromString(raw)
        context = {k: v.WhichOneof("kind") for k, v in record.context.feature.items()}
        lists = record.feature_lists.feature_list
        return context, {k: v.feature[0].WhichOneof("kind") for k, v in lists.items()}

    assert form(path) == form(made)


def test_video_level_holds_the_means_of_the_same_videos(tmp_path):
    (frames,) = synthetic.write_youtube8m(tmp_path / "f", "train", 1, 8, 4, **SMALL)
    (means,) = synthetic.write_youtube8m(
        tmp_path / "v", "train", 1, 8, 4, level="video", **SMALL
    )
    ((inputs, labels, ids),) = youtube8m.load(
        "train", files=means, level="video", with_ids=True, shuffle=False, **SMALL
    )
    known = protos.read(frames)
    assert list(ids.numpy()) == list(known)
    for values, hot, name in zip(inputs["features"], labels, ids.numpy()):
        expected, of_record = known[name]
        np.testing.assert_allclose(values, expected.mean(axis=0), atol=1e-5)
        np.testing.assert_array_equal(hot, protos.multi_hot(of_record))


def test_segments_are_rated_for_their_videos_labels(tmp_path):
    (path,) = synthetic.write_youtube8m(
        tmp_path, "validate", 1, 30, 4, level="segment", **SMALL
    )
    known = protos.read(path)
    ((inputs, labels, ids),) = youtube8m.load(
        "validate", files=path, batch_size=999, level="segment", with_ids=True, **SMALL
    )
    assert 60 < len(ids) <= 150
    for hot, name in zip(labels.numpy(), ids.numpy()):
        (rated,) = np.flatnonzero(hot != youtube8m.UNRATED)
        assert hot[rated] == float(rated in known[name][1])
    assert 0.3 < (labels.numpy().max(axis=1) == 1).mean() < 0.95
    assert (inputs["num_frames"].numpy() == 5).all()


def test_splits_share_classes_but_no_videos(tmp_path):
    paths = [
        synthetic.write_youtube8m(tmp_path, split, 1, 20, 4, **SMALL)[0]
        for split in ("train", "validate")
    ]
    train, validate = map(protos.read, paths)
    assert not {bytes(v[0][0]) for v in train.values()} & {
        bytes(v[0][0]) for v in validate.values()
    }
    (test,) = synthetic.write_youtube8m(tmp_path, "test", 1, 3, 4, **SMALL)
    assert all(labels == set() for _, labels in protos.read(test).values())


def test_a_linear_model_learns_far_more_than_the_prior(tmp_path):
    settings = {"features": {"rgb": 96, "audio": 32}, "num_classes": 40}

    def arrays(split, examples):
        files = synthetic.write_youtube8m(
            tmp_path, split, 1, examples, 5, level="video", max_frames=30, **settings
        )
        ((inputs, labels),) = youtube8m.load(
            split, files=files, batch_size=examples, level="video", **settings
        )
        return inputs["features"].numpy(), labels.numpy()

    features, labels = arrays("train", 800)
    prior = labels.mean(axis=0)
    mean = features.mean(axis=0)
    x = features - mean
    weights = np.linalg.solve(x.T @ x + 10.0 * np.eye(128), x.T @ (labels - prior))
    features, labels = arrays("validate", 400)
    linear = gap((features - mean) @ weights + prior, labels)
    baseline = gap(np.broadcast_to(prior, labels.shape), labels)
    assert baseline < 0.4 and linear > baseline + 0.35


def gap(scores, labels, top=20):
    """Global average precision, by its definition."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    confidences = np.take_along_axis(scores, best, axis=1).ravel()
    hits = np.take_along_axis(labels, best, axis=1).ravel()
    hits = hits[np.argsort(-confidences, kind="stable")]
    precisions = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return (precisions * hits).sum() / labels.sum()


def test_bad_arguments_are_named(tmp_path):
    for change, said in (
        ({"level": "clip"}, "`level` must be one of .*level='clip'"),
        ({"shards": 0}, "`shards` must be at least 1. Received: shards=0"),
        ({"max_frames": 0}, "`max_frames` must be at least 1"),
    ):
        arguments = {"shards": 1, "examples_per_shard": 1, **change}
        with pytest.raises(ValueError, match=said):
            synthetic.write_youtube8m(tmp_path, "train", **arguments)
