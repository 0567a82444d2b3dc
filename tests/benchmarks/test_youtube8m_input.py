"""What is compared reads the same videos; what is made of times. No times asserted."""

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import input_timing
from benchmarks import youtube8m_input as benchmark
from datasets import synthetic, youtube8m
from tests.benchmarks import small_runs


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("yt8m")
    return synthetic.write_youtube8m(folder, "train", 2, 4, 1)


def test_all_pipelines_draw_frames_of_the_same_videos(files):
    whole = youtube8m.load("train", files=files, batch_size=99, shuffle=False)
    ((inputs, labels),) = whole
    frames = {
        bytes(frame): video
        for video, count in enumerate(inputs["num_frames"])
        for frame in inputs["frames"][video, :count].numpy()
    }
    for name, make in benchmark.pipelines(files, 3, epochs=1).items():
        if name == "reference, normalised":
            continue
        seen = []
        for batch, hot in make():
            batch = batch["frames"] if isinstance(batch, dict) else batch
            assert batch.shape[1:] == (25, 1152)
            for drawn, of_video in zip(batch.numpy(), hot.numpy()):
                videos = {frames[bytes(frame)] for frame in drawn}
                assert len(videos) == 1
                np.testing.assert_array_equal(of_video, labels[min(videos)])
                seen += videos
        assert sorted(seen) == list(range(8))


def test_the_normalised_reference_has_frames_of_length_one(files):
    for frames, _ in benchmark.reference(files, 3, epochs=1, normalise=True):
        lengths = np.linalg.norm(frames, axis=-1)
        np.testing.assert_allclose(lengths, 1.0, rtol=1e-5)


def test_every_round_takes_as_many_batches_of_every_pipeline():
    read = []

    def make(name):
        def note(number):
            read.append(name)
            return number

        # One element without end, whose map runs in Python each time it is read.
        one = tf.data.Dataset.from_tensors(0).repeat()
        one = one.map(lambda n: tf.numpy_function(note, [n], tf.int32))
        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False  # nothing ahead
        return lambda: one.with_options(options)

    made = {name: make(name) for name in ("reference", "ours")}
    times = input_timing.measure(made, rounds=3, warm_up=2, batches=4)
    assert read == (["reference"] * 6 + ["ours"] * 6) * 3
    assert all(len(t) == 3 for clocks in times.values() for t in clocks.values())


def test_ratios_are_medians_of_those_within_a_round():
    times = {
        "reference": {"seconds": [4.0, 40.0, 4.0], "cpu_seconds": [8.0] * 3},
        "ours": {"seconds": [0.4, 5.0, 0.5], "cpu_seconds": [2.0] * 3},
    }
    reference, ours = input_timing.summarise(times, "reference", 1000, "videos")
    assert reference["seconds_ratio"] == reference["cpu_seconds_ratio"] == 1.0
    assert ours["seconds_ratio"] == pytest.approx(8.0)  # of 10, 8 and 8
    assert ours["cpu_seconds_ratio"] == pytest.approx(4.0)
    assert ours["videos_per_second"] == pytest.approx(2000.0)
    assert ours["cpu_seconds_per_1000"] == pytest.approx(2.0)


@pytest.mark.parametrize("ratio, word", [(8.0, "met"), (7.9, "missed")])
def test_the_goal_is_judged_by_ours(ratio, word):
    lines = [
        {"pipeline": "reference, normalised", "seconds_ratio": 99.0},
        {"pipeline": "ours", "seconds_ratio": ratio},
    ]
    assert benchmark.verdict(lines).endswith(f"goal 8: {word}")


def test_the_share_of_the_input():
    said = benchmark.share_verdict("dbof", 0.05, 1.0)
    assert "5.0%" in said and said.endswith("met")
    assert benchmark.share_verdict("dbof", 0.2, 1.0).endswith("missed")


@pytest.mark.line("2.21")
def test_a_small_run_writes_its_table(tmp_path):
    printed, lines = small_runs.run("youtube8m_input", tmp_path)
    assert "ours, verified" in printed and "goal 8" in printed
    assert [line["pipeline"] for line in lines] == [
        *("reference", "reference, normalised", "ours", "ours, verified")
    ]
    assert lines[0]["videos"] == "16" and lines[0]["tensorflow"] == tf.__version__
