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
from recipes import sweeps, youtube8m_dbof
from recipes.common import SettingError
from tests.conftest import CHECKOUT
from tests.script_runs import records_of, result_of, run_script

pytestmark = [pytest.mark.slow, pytest.mark.line("2.15")]

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
    flags = (*TINY, f"--workdir={workdir}", *arguments)
    ended = run_script(SCRIPT, *flags, code=code)
    return ended.stdout if code == 0 else ended.stderr


def final_weights(folder):
    """{name: array} of the newest checkpoint, the optimizer's state among them."""
    counts = "save_counter"  # SIGTERM saves once more
    reader = tf.train.load_checkpoint(str(folder / "checkpoints"))
    names = reader.get_variable_to_shape_map()
    wanted = [
        name
        for name in names
        if name.endswith("VARIABLE_VALUE") and not name.startswith(counts)
    ]
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
    log = records_of(folder)
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
    csv_path, exported = tmp_path / "best.csv.gz", tmp_path / "served"
    common = ("--sweep=distillation_weight=0,2", f"--run={MULTI}")
    run(workdir, "predict", *common, f"--output={csv_path}")
    run(workdir, "export", *common, f"--output={exported}")
    (shards,) = (workdir / "synthetic").glob("frame*")
    options = {"features": {"rgb": 6, "audio": 2}, "num_classes": 12, "max_frames": 9}
    data = youtube8m.load("test", shards, 64, with_ids=True, **options)
    ((inputs, _, ids),) = data
    by_frames = tf.saved_model.load(str(exported / "frames"))
    scores = by_frames.signatures["serving_default"](**inputs)["probabilities"]
    assert {"serving_default", "heads"} <= by_frames.signatures.keys()
    by_records = tf.saved_model.load(str(exported / "records"))
    records = list(tf.data.TFRecordDataset(str(shards / "test0000.tfrecord")))
    served = by_records.signatures["serving_default"](examples=tf.stack(records))
    npt.assert_array_equal(served["ids"], ids)
    npt.assert_allclose(served["probabilities"], scores, atol=1e-6)
    header, *lines = gzip.open(csv_path, "rt").read().splitlines()
    assert header == "VideoId,LabelConfidencePairs" and len(lines) == EVALUATED
    for line, name, row in zip(lines, ids.numpy(), np.array(scores)):
        video, pairs = line.split(",")
        assert video == name.decode()
        classes, confidences = pairs.split()[::2], pairs.split()[1::2]
        assert sorted(map(int, classes)) == list(range(12))  # top 20 of 12
        npt.assert_allclose(np.float64(confidences), -np.sort(-row), atol=1e-5)


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_weights(tmp_path):
    options = ("--models=dbof_2heads", "--steps=400", "--checkpoint_every=20")
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
    assert again["metrics"] == whole["metrics"] and again["step"] == 400


def wait_for_checkpoint(process, folder, after):
    """Waits until a checkpoint of a step beyond `after` is there."""
    end = time.monotonic() + 200
    while time.monotonic() < end and process.poll() is None:
        newest = tf.train.latest_checkpoint(str(folder / "checkpoints"))
        if newest and int(newest.rsplit("-", 1)[1]) > after:
            return
        time.sleep(0.02)
    pytest.fail(f"no checkpoint came: {process.communicate()[1][-2000:]}")


def test_another_vocabulary_than_the_checkpoints_is_refused(trained):
    errors = run(trained[0], "--num_classes=13", code=1)
    assert "num_classes is 12 there and 13 here" in errors
    assert "Traceback" not in errors


def test_no_data_is_an_error_that_names_the_flag(tmp_path):
    ended = run_script(SCRIPT, f"--workdir={tmp_path}", code=1)
    assert "Traceback" not in ended.stderr
    assert "--data_dir must name the folder of the shards" in ended.stderr


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"models": ("dbof_3heads",)}, "`models` must name models among dbof, dbof_2h"),
        ({"models": ()}, "`models` must name at least one model"),
        (
            {"checkpoint_every": 30},
            "`checkpoint_every` must be a multiple of log_every",
        ),
        ({"ensemble_weight": None, "distillation_weight": None}, "must be none where"),
        ({"feature_sizes": (8,)}, "`feature_sizes` must have an entry for each"),
        ({"strategy": "gpu"}, "`strategy` must be one of auto, default, mirrored"),
        (
            {"strategy": "cluster"},
            "one of auto, default, mirrored, multi_worker, tpu. R",
        ),
        ({"precision": "int8"}, "`precision` must be one of float32"),
        ({"decay_rate": 0.0}, r"`decay_rate` must be in \(0, 1\]"),
        ({"clip_norm": -1.0}, "`clip_norm` must be above 0, or none"),
        ({"train_split": "all"}, "`train_split` must be one of train, validate"),
        ({"head_hidden": 0}, "`head_hidden` must be at least 1"),
    ],
)
def test_settings_are_checked(changes, message):
    with pytest.raises(SettingError, match=message):
        youtube8m_dbof.PRESETS["smoke"].with_changes(**changes)


def test_the_weight_that_is_given_says_which_loss_it_is():
    paper = youtube8m_dbof.PRESETS["paper"]
    assert (paper.distillation_weight, paper.ensemble_weight) == (2.0, None)
    ensembling = paper.with_changes(ensemble_weight=-0.5)
    assert (ensembling.distillation_weight, ensembling.ensemble_weight) == (None, -0.5)
    again = ensembling.with_changes(distillation_weight=1.0)
    assert (again.distillation_weight, again.ensemble_weight) == (1.0, None)


def test_paper_preset_holds_the_published_settings():
    paper = youtube8m_dbof.PRESETS["paper"]
    assert (paper.batch_size, paper.random_frames, paper.max_frames) == (512, 25, 300)
    assert (paper.cluster, paper.hidden, paper.num_experts) == (4096, 4096, 5)
    assert (paper.num_heads, paper.head_hidden, paper.head_experts) == (2, 3000, 3)
    assert (paper.learning_rate, paper.decay_rate) == (0.005, 0.95)
    experiment = youtube8m_dbof.YouTube8M()
    small = paper.with_changes(num_classes=3, feature_sizes=(2, 1), cluster=4, hidden=4)
    run = sweeps.Run("dbof", small, 0)
    model = experiment.build(run)
    experiment.compile(model, run)
    schedule = model.optimizer.get_config()["learning_rate"]["config"]
    examples = schedule["decay_steps"] * paper.batch_size
    assert abs(examples - 1_500_000) < paper.batch_size and schedule["staircase"]
