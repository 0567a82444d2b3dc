"""The YouTube-8M recipe as a program: train, be killed, go on, and what comes out."""

import csv
import gzip
import json
import signal
import subprocess
import sys
import time

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

from datasets import youtube8m
from tests.conftest import CHECKOUT

SCRIPT = CHECKOUT / "recipes" / "youtube8m_dbof.py"
TINY = (
    "--preset=smoke",
    *("--synthetic_videos=64", "--num_classes=12", "--feature_sizes=6,2"),
    *("--max_frames=9", "--cluster=8", "--hidden=8", "--head_hidden=6"),
    *("--num_experts=2", "--head_experts=1", "--batch_size=8"),
    *("--evaluation_batch_size=3", "--steps=12", "--log_every=2"),
    *("--checkpoint_every=4", "--evaluate_every=6", "--random_frames=5"),
)
EVALUATED = 8  # an eighth of the synthetic videos


def start(workdir, *arguments):
    command = [sys.executable, SCRIPT, *TINY, f"--workdir={workdir}", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT
    )


def run(workdir, *arguments, code=0):
    process = start(workdir, *arguments)
    printed, errors = process.communicate(timeout=300)
    assert process.returncode == code, errors[-4000:]
    return printed if code == 0 else errors


def result_of(folder):
    return json.loads((folder / "result.json").read_text())


def final_weights(folder):
    """{name: array} of the newest checkpoint, the optimizer's state among them."""
    reader = tf.train.load_checkpoint(str(folder / "checkpoints"))
    names = reader.get_variable_to_shape_map()
    wanted = [name for name in names if name.endswith("VARIABLE_VALUE")]
    return {name: reader.get_tensor(name) for name in wanted}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("youtube8m")
    printed = run(workdir, "--sweep=distillation_weight=0,2")
    return workdir, printed


MULTI = "dbof_2heads_distillation_weight_2-seed0"


def test_trains_the_single_and_the_multi_headed_models(trained):
    workdir, printed = trained
    folders = sorted(path.parent.name for path in workdir.glob("*/result.json"))
    other = "dbof_2heads_distillation_weight_0-seed0"
    assert folders == ["dbof-seed0", other, MULTI]
    with open(workdir / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row, folder in zip(rows, folders):
        metrics = result_of(workdir / folder)["metrics"]
        assert metrics["examples"] == EVALUATED
        assert float(row["gap"]) == metrics["gap"] and 0 < metrics["gap"] <= 1
    assert {"head_0_gap", "head_1_gap"} <= metrics.keys()
    assert "GAP %" in printed and "± n/a" in printed
    for name in ("learning_curves.png", "gap_by_distillation_weight.png"):
        assert (workdir / name).stat().st_size > 5000
    assert list((workdir / MULTI / "tensorboard").glob("events*"))


def test_log_holds_every_interval_and_evaluation(trained):
    folder = trained[0] / MULTI
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    log = [json.loads(line) for line in lines]
    assert [r["step"] for r in log if "train_loss" in r] == [2, 4, 6, 8, 10, 12]
    assert [r["step"] for r in log if "evaluation_gap" in r] == [6, 12]
    assert log[-1]["evaluation_gap"] == result_of(folder)["metrics"]["gap"]
    with open(folder / "metrics.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [float(r["train_loss"]) for r in table if r["train_loss"]] == [
        r["train_loss"] for r in log if "train_loss" in r
    ]
    config = json.loads((folder / "config.json").read_text())
    assert config["distillation_weight"] == 2.0 and config["model"] == "dbof_2heads"


def test_finished_runs_are_kept(trained):
    workdir, _ = trained
    before = result_of(workdir / MULTI)
    printed = run(workdir, "--sweep=distillation_weight=0,2")
    assert printed.count("is finished and kept") == 3
    assert result_of(workdir / MULTI) == before


@pytest.mark.slow
def test_predictions_and_served_models_agree(trained, tmp_path):
    workdir, _ = trained
    csv_path, exported = tmp_path / "best.csv", tmp_path / "served"
    common = ("--sweep=distillation_weight=0,2", f"--run={MULTI}")
    run(workdir, "predict", *common, f"--output={csv_path}")
    run(workdir, "predict", *common)
    packed = workdir / MULTI / "predictions.csv.gz"
    assert gzip.open(packed, "rt").read() == csv_path.read_text()
    run(workdir, "export", *common, f"--output={exported}")
    (shards,) = (workdir / "synthetic").glob("frame*")
    options = {"features": {"rgb": 6, "audio": 2}, "num_classes": 12, "max_frames": 9}
    data = youtube8m.load("test", shards, 64, with_ids=True, **options)
    ((inputs, _, ids),) = data
    by_frames = tf.saved_model.load(str(exported / "frames"))
    scores = by_frames.signatures["serving_default"](**inputs)["probabilities"]
    by_records = tf.saved_model.load(str(exported / "records"))
    records = list(tf.data.TFRecordDataset(str(shards / "test0000.tfrecord")))
    served = by_records.signatures["serving_default"](examples=tf.stack(records))
    npt.assert_array_equal(served["ids"], ids)
    npt.assert_allclose(served["probabilities"], scores, atol=1e-6)
    header, *lines = csv_path.read_text().splitlines()
    assert header == "VideoId,LabelConfidencePairs" and len(lines) == EVALUATED
    for line, name, row in zip(lines, ids.numpy(), np.array(scores)):
        video, pairs = line.split(",")
        assert video == name.decode()
        classes, confidences = pairs.split()[::2], pairs.split()[1::2]
        assert sorted(map(int, classes)) == list(range(12))  # top 20 of 12
        npt.assert_allclose(np.float64(confidences), -np.sort(-row), atol=1e-5)


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_weights(tmp_path):
    options = ("--models=dbof_2heads", "--steps=600", "--checkpoint_every=20")
    options += ("--evaluate_every=200", "--log_every=20", "--synthetic_videos=256")
    run(tmp_path / "whole", *options)
    key = "dbof_2heads-seed0"
    folder = tmp_path / "killed" / key
    for number, (name, code) in enumerate(
        (("SIGKILL", -signal.SIGKILL), ("SIGTERM", 128 + signal.SIGTERM))
    ):
        process = start(tmp_path / "killed", *options)
        wait_for_checkpoint(process, folder, after=100 * number)
        process.send_signal(getattr(signal, name))
        process.communicate(timeout=120)
        assert process.returncode == code
        assert not (folder / "result.json").exists()
    run(tmp_path / "killed", *options)
    expected = final_weights(tmp_path / "whole" / key)
    received = final_weights(folder)
    assert len(expected) > 40 and expected.keys() == received.keys()
    for name, value in expected.items():
        npt.assert_array_equal(received[name], value, err_msg=name)
    whole, again = result_of(tmp_path / "whole" / key), result_of(folder)
    assert again["metrics"] == whole["metrics"] and again["step"] == 600


def wait_for_checkpoint(process, folder, after):
    """Waits until a checkpoint of a step beyond `after` is there."""
    end = time.monotonic() + 200
    while time.monotonic() < end and process.poll() is None:
        newest = tf.train.latest_checkpoint(str(folder / "checkpoints"))
        if newest and int(newest.rsplit("-", 1)[1]) > after:
            return
        time.sleep(0.02)
    pytest.fail(f"no checkpoint came: {process.communicate()[1][-2000:]}")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--num_classes=13"], "num_classes is 12 there and 13 here"),
        (["--models=dbof_3heads"], "--models must name models among dbof, dbof_2heads"),
        (["--sweep=mu=1,2"], "--sweep must be a setting and its values"),
        (["--sweep=distillation_weight=a"], "--sweep must hold values that fit"),
        (["evaluate", "--run=dbof-seed7"], "--run must be one of dbof-seed0"),
        (
            ["practise"],
            "One command is taken, train, evaluate, predict, export, report",
        ),
        (["--checkpoint_every=3"], "--checkpoint_every must be a multiple of log_ev"),
        (
            ["--synthetic_videos=0", "--train_files=/nowhere/*.tfrecord"],
            "/nowhere/*.tfrecord",
        ),
    ],
)
def test_bad_flags_get_one_paragraph(trained, arguments, message):
    errors = run(trained[0], *arguments, code=1)
    assert message in errors and "Traceback" not in errors


def test_no_data_is_an_error_that_names_the_flag(tmp_path):
    command = [sys.executable, SCRIPT, f"--workdir={tmp_path}"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert "--data_dir must name the folder of the shards" in ended.stderr
