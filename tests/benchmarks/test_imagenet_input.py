"""What is compared reads the same images; what is made of times. No times asserted."""

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import imagenet_input as benchmark
from benchmarks import input_timing
from datasets import synthetic_imagenet
from tests.benchmarks import small_runs
from tests.imagenet_files import encode, picture


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imagenet")
    return synthetic_imagenet.write_imagenet(
        folder, "train", 2, 4, num_classes=8, blocks=(2, 3)
    )


def test_all_pipelines_give_each_image_once_and_scaled_alike(files):
    means = {}
    for name, make in benchmark.pipelines(files, 3, epochs=1).items():
        batches = list(make())
        assert sorted(np.concatenate([labels for _, labels in batches])) == [*range(8)]
        images = np.concatenate([images for images, _ in batches])
        assert images.shape == (8, 224, 224, 3) and images.dtype == np.float32
        means[name] = images.mean()
    assert set(means) == set(benchmark.REFERENCES)
    assert max(means.values()) - min(means.values()) < 0.5


def test_images_given_are_read_in_place_of_those_made_up(tmp_path):
    given = tmp_path / "given.JPEG"
    given.write_bytes(encode(picture(1)))
    shards = benchmark.write_shards(tmp_path / "shards", 1, 3, [given])
    (records,) = (
        [*tf.data.TFRecordDataset(path).as_numpy_iterator()] for path in shards
    )
    assert len(records) == 3 and all(given.read_bytes() in one for one in records)


def test_ratios_are_to_the_reference_that_gives_the_same():
    times = {
        "reference": {"seconds": [4.0, 8.0, 4.0], "cpu_seconds": [8.0] * 3},
        "ours": {"seconds": [2.0, 2.0, 2.0], "cpu_seconds": [2.0] * 3},
        "reference, colours": {"seconds": [9.0] * 3, "cpu_seconds": [9.0] * 3},
        "ours, colours": {"seconds": [3.0] * 3, "cpu_seconds": [3.0] * 3},
    }
    lines = input_timing.summarise(times, benchmark.REFERENCES, 1000, "images")
    ratios = {line["pipeline"]: line["seconds_ratio"] for line in lines}
    assert ratios == {
        "reference": 1.0,
        "ours": 2.0,
        "reference, colours": 1.0,
        "ours, colours": 3.0,
    }
    assert lines[1]["images_per_second"] == pytest.approx(500.0)
    assert lines[1]["cpu_seconds_ratio"] == pytest.approx(4.0)


def test_the_share_of_the_input():
    assert benchmark.share_verdict("resnet50", 0.05, 1.0).endswith(" 5.0%")


@pytest.mark.line("2.15")
def test_a_small_run_writes_its_table(tmp_path):
    printed, lines = small_runs.run("imagenet_input", tmp_path)
    assert "ours, colours" in printed
    assert [line["pipeline"] for line in lines] == list(benchmark.REFERENCES)
    assert lines[0]["images"] == "8" and lines[0]["tensorflow"] == tf.__version__
