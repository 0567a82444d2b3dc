"""The main job, whole: what it writes, that it goes on, what bad flags get."""

import csv
import dataclasses
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import ensemble_heads as eh
from recipes import comparison, digits_resnet, ensemble_methods, results
from recipes.common import Options, SettingError
from recipes.workdir import Workdir
from tests.recipes import short_runs
from tests.script_runs import run_script

pytestmark = [pytest.mark.slow, pytest.mark.line("2.15")]

SMOKE = digits_resnet.PRESETS["smoke"]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """(what the smoke preset printed, its workdir), run once as users run it."""
    return short_runs.run_smoke("digits_resnet", tmp_path_factory.mktemp("smoke"))


def test_every_run_is_recorded_and_learns(smoke):
    records = short_runs.records_of(smoke[1])
    assert [r["run"] for r in records] == [
        f"{method}-seed{seed}"
        for seed in (0, 1)
        for method in ("single", "lambda_-1.5", "mu_3")
    ]
    for record in records:
        losses = record["train_loss"]
        assert len(losses) == SMOKE.epochs and np.isfinite(losses).all()
        assert losses[-1] < 0.9 * losses[0]
        assert record["accuracy"] > 0.2  # chance is 0.1
        assert record["examples"] == 1797 - SMOKE.train_examples
        assert record["test_epochs"] == [3, 6]
        assert record["accuracy"] == record["test_accuracy"][-1]
        assert len(record["head_accuracies"]) == 2 * (record["method"] != "single")
        assert 0 < record["seconds_per_step"] < 10
        assert record["tensorflow"] == tf.__version__ and "commit" in record


def test_the_heads_cost_no_more_than_the_single_network(smoke):
    sizes = {
        r["method"]: (r["parameters"], r["flops"])
        for r in short_runs.records_of(smoke[1])
    }
    single = sizes.pop("single")
    assert all(s <= one for size in sizes.values() for s, one in zip(size, single))
    assert min(size[1] for size in sizes.values()) > 0.8 * single[1]


def test_the_table_says_what_the_records_say(smoke):
    printed, workdir = smoke
    records = short_runs.records_of(workdir)
    with open(workdir / "table.csv", newline="", encoding="utf-8") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["single network", "lambda = -1.5", "mu = 3"]
    single, heads = (
        [r["accuracy"] for r in records if r["method"] == method]
        for method in ("single", "mu_3")
    )
    row = rows["mu = 3"]
    assert float(row["accuracy"]) == pytest.approx(np.mean(heads))
    # Equal to the formula of the paper: sample deviation over root N.
    error = np.std(heads, ddof=1) / math.sqrt(2)
    assert float(row["accuracy_standard_error"]) == pytest.approx(error)
    gains = np.subtract(heads, single)
    assert float(row["gain"]) == pytest.approx(np.mean(gains))
    error = np.std(gains, ddof=1) / math.sqrt(2)
    assert float(row["gain_standard_error"]) == pytest.approx(error)
    assert rows["single network"]["gain"] == ""
    markdown = (workdir / "table.md").read_text(encoding="utf-8")
    text = results.percent(np.mean(heads), np.std(heads, ddof=1) / math.sqrt(2))
    assert f"| mu = 3 | {text} |" in markdown
    assert re.search(rf"mu = 3 +{re.escape(text)} ", printed)


def test_plots_are_pictures(smoke):
    for name in ("learning_curves.png", "accuracy_by_weight.png"):
        image = tf.io.decode_png((smoke[1] / name).read_bytes()).numpy()
        assert image.shape[0] > 200 and image.std() > 5


def test_progress_and_the_served_model_are_reported(smoke):
    printed, workdir = smoke
    assert "run 6 of 6  mu = 3, seed 1" in printed
    best = max(short_runs.records_of(workdir), key=lambda record: record["accuracy"])
    assert f"Best run: {best['label']}, seed {best['seed']}." in printed
    assert f"{100 * best['accuracy']:.2f} % of 1597 test examples right" in printed
    served = tf.saved_model.load(str(workdir / "saved_model"))
    images = tf.zeros([3, 8, 8, 1])
    (probabilities,) = served.signatures["serving_default"](images=images).values()
    np.testing.assert_allclose(tf.reduce_sum(probabilities, -1), np.ones(3), atol=1e-5)


def test_a_run_depends_on_its_method_and_seed_alone(smoke):
    """The last run of the script, done here as the first, gives the same."""
    study = digits_resnet.DigitsStudy(SMOKE)
    method = next(m for m in study.methods() if m.key == "mu_3")
    here, _ = study.train(method, seed=1)
    there = next(r for r in short_runs.records_of(smoke[1]) if r["run"] == "mu_3-seed1")
    # Only the start can be compared closely: rounding differs by threads, and grows.
    assert here["train_loss"][0] == pytest.approx(there["train_loss"][0], rel=1e-3)
    assert here["accuracy"] == pytest.approx(there["accuracy"], abs=0.1)


@pytest.fixture
def finished(smoke, tmp_path):
    """A copy of the finished workdir."""
    return Path(shutil.copytree(smoke[1], tmp_path / "copy"))


def test_finished_runs_are_not_done_again(finished, monkeypatch, capsys):
    def refuse(*arguments):
        raise AssertionError("trained again")

    monkeypatch.setattr(comparison.Study, "train", refuse)
    before = (finished / "results.jsonl").read_bytes()
    for name in comparison.ARTIFACTS:
        if (finished / name).is_file():
            (finished / name).unlink()
    digits_resnet.main(SMOKE, Options("smoke", finished))
    printed = capsys.readouterr().out
    assert "6 of 6 runs were found finished" in printed
    assert (finished / "results.jsonl").read_bytes() == before
    assert all((finished / name).exists() for name in comparison.ARTIFACTS)


def test_only_missing_runs_are_done(finished, monkeypatch):
    (finished / "models" / "mu_3-seed0.keras").unlink()
    trained = []

    def train(self, method, seed, callbacks=()):
        trained.append((method.key, seed))
        (one,) = (r for r in self.done if r["run"] == f"{method.key}-seed{seed}")
        model = self.draw(method, seed)
        return {k: v for k, v in one.items() if k != "run"}, model

    monkeypatch.setattr(comparison.Study, "train", train)
    study = digits_resnet.DigitsStudy(SMOKE.with_changes(width_multiplier="0.6"))
    study.done = short_runs.records_of(finished)
    runs = [(method, seed) for seed in (0, 1) for method in study.methods()]
    workdir = Workdir(finished, json.loads((finished / "config.json").read_text()))
    comparison.train_missing(study, runs, workdir, comparison.Console())
    assert trained == [("mu_3", 0)]
    assert len(short_runs.records_of(finished)) == 6


def test_other_settings_in_the_same_workdir_are_refused(finished):
    config = SMOKE.with_changes(epochs=7)
    message = "epochs is 6 there and 7 here.*--overwrite"
    with pytest.raises(SettingError, match=message):
        digits_resnet.main(config, Options("smoke", finished))


def test_more_methods_and_seeds_are_no_other_settings():
    def decides(**changes):
        return digits_resnet.DigitsStudy(SMOKE.with_changes(**changes)).decides_a_run()

    assert decides(seeds=9, ensemble_weights=(0.5,)) == decides()
    assert decides(learning_rate=0.5) != decides()


def test_methods_follow_from_the_weights():
    config = SMOKE.with_changes(ensemble_weights=(0.5,), distillation_weights=(0, 2.0))
    single, *rest = digits_resnet.DigitsStudy(config).methods()
    assert single.ensemble_loss is None
    assert [repr(m.ensemble_loss) for m in rest] == [
        "Ensembling(ensemble_weight=0.5)",
        "CoDistillation(distillation_weight=0.0)",
        "CoDistillation(distillation_weight=2.0)",
    ]
    assert [m.key for m in rest] == ["lambda_0.5", "mu_0", "mu_2"]


def test_every_loss_is_a_method_by_name():
    config = SMOKE.with_changes(ensemble_loss=ensemble_methods.NAMES)
    _, *methods = digits_resnet.DigitsStudy(config).methods()
    assert len({m.key for m in methods}) == len({m.label for m in methods})
    trained = {type(m.ensemble_loss) for m in methods}
    public = (getattr(eh.losses, name) for name in eh.losses.__all__)
    assert trained == {
        loss
        for loss in public
        if isinstance(loss, type)
        and issubclass(loss, eh.losses.EnsembleLoss)
        and loss not in (eh.losses.EnsembleLoss, eh.losses.LossOfHeads)
    }
    ensemblers = {type(m.ensembler()) for m in methods}
    known = eh.ensemblers
    assert ensemblers == {known.Mean, known.Gated, known.MixtureOfExperts}


def one_method(name, **changes):
    """(study of one method beside the single network, the method), soon trained."""
    changes = {"train_examples": 40, "epochs": 1, "evaluate_every": 1, **changes}
    config = SMOKE.with_changes(
        ensemble_loss=(name,), width_multiplier="0.6", **changes
    )
    study = digits_resnet.DigitsStudy(config)
    return study, study.methods()[1]


@pytest.mark.parametrize("name", ["bagging", "on_the_fly", "modular"])
def test_methods_train_with_what_they_need(name):
    study, method = one_method(name)
    record, model = study.train(method, seed=0)
    assert record["method"] == name and np.isfinite(record["train_loss"]).all()
    assert record["oracle_accuracy"] >= max(record["head_accuracies"])
    assert type(model.ensembler) is type(method.ensembler())


def test_distillation_learns_from_the_single_network_of_its_seed():
    study, method = one_method("distillation")
    study.train(method, seed=1)
    taught = study._teacher.get_weights()
    _, single = study.train(comparison.SINGLE, seed=1)
    for ours, theirs in zip(taught, single.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    study.train(method, seed=0)
    assert any((a != b).any() for a, b in zip(taught, study._teacher.get_weights()))
    assert method.ensemble_loss.teacher is study._teacher


def test_a_loss_s_parameters_are_settings_of_the_folder(tmp_path):
    digits = digits_resnet.DigitsStudy(SMOKE.with_changes(ensemble_loss=()))
    Workdir(tmp_path, digits.decides_a_run())
    more = SMOKE.with_changes(ensemble_loss=("on_the_fly", "bagging"))
    Workdir(tmp_path, digits_resnet.DigitsStudy(more).decides_a_run())
    other = digits_resnet.DigitsStudy(more.with_changes(temperature=2.0))
    with pytest.raises(SettingError, match="temperature is 3.0 there and 2.0 here"):
        Workdir(tmp_path, other.decides_a_run())


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"seeds": 0}, "--seeds must be at least 1. Received: --seeds=0"),
        ({"epochs": -2}, "--epochs must be at least 1. Received: --epochs=-2"),
        ({"batch_size": 0}, "--batch_size must be at least 1"),
        ({"train_examples": 1797}, "--train_examples must be from 1 to 1796"),
        ({"max_shift": 8}, "--max_shift must be from 0 to 7"),
        ({"blocks": ()}, "--blocks must hold at least one"),
        ({"blocks": (1, 0)}, "--blocks must hold .*--blocks=1,0"),
        ({"learning_rate": 0.0}, "--learning_rate must be above 0"),
        ({"learning_rate": math.nan}, "--learning_rate must be finite"),
        ({"ensemble_weights": (0.0, math.inf)}, "--ensemble_weights must be finite"),
        ({"ensemble_weights": (0.0, 0.0)}, "--ensemble_weights must hold each .*once"),
        ({"distillation_weights": (-1.0,)}, "--distillation_weights must be 0 or more"),
        ({"ensemble_loss": ("ONE",)}, "must name ensemble_loss among .*on_the_fly"),
        ({"ensemble_loss": ("modular",) * 2}, "--ensemble_loss must hold .*once"),
        ({"coupling": 1.5}, "--coupling must be at most 1. Received: --coupling=1.5"),
        ({"temperature": 0.0}, "--temperature must be above 0"),
        ({"peer_weight": -1.0}, "--peer_weight must be 0 or more"),
        (
            {"ensemble_loss": ("multiple_choice",), "num_choices": 3},
            "--num_choices must be at most num_heads=2. Received: --num_choices=3",
        ),
        ({"width_multiplier": "wide"}, '--width_multiplier must be "auto" or a number'),
        ({"width_multiplier": "5"}, r"--width_multiplier must be .*in \(0, 4\]"),
    ],
)
def test_bad_settings_are_named_as_flags(changes, message):
    with pytest.raises(SettingError) as caught:
        dataclasses.replace(SMOKE, **changes)
    assert re.search(message, caught.value.as_flag())


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="`epoch` must be a field.*Closest: epochs"):
        SMOKE.with_changes(epoch=3)


def test_bad_flags_get_a_paragraph(tmp_path):
    flags = ("--preset=smoke", "--seeds=0", "--workdir=out")
    ended = run_script("recipes/digits_resnet.py", *flags, cwd=tmp_path, code=1)
    message = "--seeds must be at least 1. Received: --seeds=0"
    assert ended.stderr.strip().splitlines()[-1] == message
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "out").exists()


def test_a_fork_that_does_not_exist_gets_the_library_s_paragraph(tmp_path):
    config = SMOKE.with_changes(fork_at="stage7", ensemble_weights=(), epochs=1)
    study = digits_resnet.DigitsStudy(config)
    with pytest.raises(SystemExit, match="`fork_at` must .*stage7"):
        study.train(study.methods()[1], seed=0)
