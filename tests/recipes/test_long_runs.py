"""What long runs share: checkpoints, training that goes on, folders of runs."""

import csv
import resource
import signal
import types

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads import provenance
from ensemble_heads.keras_api import KERAS_3, keras
from recipes import folders, long_training, run_table, sweeps
from recipes.checkpoints import BestCheckpoint, Checkpoints, keep_random_states
from recipes.common import SettingError
from recipes.experiment import Experiment, Measure, TrainingSettings
from recipes.run_folder import RunFolder
from recipes.workers import Workers

SETTINGS = TrainingSettings(models=("single", "heads"), seeds=2)


# ---- Checkpoints


def small_model(classes=3, dropout=True):
    keep_random_states()
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    x = keras.layers.Dense(8, name="trunk")(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.5)(x) if dropout else x
    outputs = keras.layers.Dense(classes, activation="softmax")(x)
    model = eh.multi_head(keras.Model(inputs, outputs), "trunk", seed=0)
    schedule = keras.optimizers.schedules.ExponentialDecay(0.02, 3, 0.5)
    optimizer = keras.optimizers.Adam(schedule)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


def train(model, epochs):
    x = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")
    y = np.arange(16) % 3
    options = {"batch_size": 4, "shuffle": False, "verbose": 0}
    return model.fit(x, y, epochs=epochs, **options).history["loss"]


def test_training_goes_on_as_if_it_had_never_stopped(tmp_path):
    model = small_model()
    assert Checkpoints(tmp_path / "other", small_model()).restore() == 0
    checkpoints = Checkpoints(tmp_path, model)
    train(model, 2)
    checkpoints.save(8)
    expected = train(model, 2)
    again = small_model()
    assert Checkpoints(tmp_path, again).restore() == 8
    # Dropout, moving statistics, moments and the schedule all go on.
    assert train(again, 2) == expected
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        npt.assert_array_equal(a, b)


def test_the_scale_of_a_float16_loss_goes_on(tmp_path):
    def made():
        model = small_model()
        inner = keras.optimizers.SGD(0.01)
        scaled = keras.mixed_precision.LossScaleOptimizer(inner, dynamic_growth_steps=3)
        model.compile(scaled, "sparse_categorical_crossentropy")
        # Two, as in a run that keeps the state that did best.
        names = ("checkpoints", "chosen")
        return model, *(Checkpoints(tmp_path / name, model) for name in names)

    def scale(model):
        optimizer = model.optimizer
        return float(optimizer.dynamic_scale if KERAS_3 else optimizer.loss_scale)

    model, checkpoints, chosen = made()
    first = scale(model)
    train(model, 1)  # four steps
    checkpoints.save(4)
    chosen.save(5)
    again, found, _ = made()
    assert found.restore() == 4
    other, found, _ = made()
    assert found.restore(tmp_path / "chosen") == 5
    assert scale(again) == scale(other) == scale(model) == 2 * first
    for one in (model, again, other):  # two steps more double it again
        train(one, 1)
        assert scale(one) == 4 * first


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    model = small_model()
    checkpoints = Checkpoints(tmp_path, model, keep=2)
    for step in (1, 2, 3):
        checkpoints.save(step)
    names = sorted(path.name for path in tmp_path.glob("*.index"))
    assert names == ["ckpt-2.index", "ckpt-3.index"]


def test_what_is_half_written_is_not_read(tmp_path):
    model = small_model()
    Checkpoints(tmp_path, model).save(1)
    for path in tmp_path.glob("ckpt-1.*"):
        half = path.read_bytes()[: path.stat().st_size // 2]
        (tmp_path / path.name.replace("ckpt-1", "ckpt-2")).write_bytes(half)
    assert Checkpoints(tmp_path, small_model()).restore() == 1


@pytest.mark.parametrize("damage", ["another model", "cut off"])
def test_checkpoint_that_does_not_fit(damage, tmp_path):
    Checkpoints(tmp_path, small_model()).save(5)
    if damage == "cut off":
        path = next(tmp_path.glob("ckpt-5.data*"))
        path.write_bytes(path.read_bytes()[:100])
    model = small_model(classes=4 if damage == "another model" else 3)
    with pytest.raises(SettingError, match="must hold checkpoints of this very model"):
        Checkpoints(tmp_path, model).restore()


def test_full_disk_leaves_the_checkpoint_before(tmp_path):
    model = small_model()
    checkpoints = Checkpoints(tmp_path, model)
    train(model, 1)
    checkpoints.save(4)
    expected = [np.array(weight) for weight in model.get_weights()]
    train(model, 1)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        with pytest.raises(
            SettingError, match="must have room for checkpoints.*step 8"
        ):
            checkpoints.save(8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.glob("ckpt-8*"))
    again = small_model()
    assert Checkpoints(tmp_path, again).restore() == 4
    for a, b in zip(expected, again.get_weights(), strict=True):
        npt.assert_array_equal(a, b)


def test_the_first_of_the_best_states_is_kept(tmp_path):
    model, folder = small_model(), RunFolder(tmp_path, {})
    best = BestCheckpoint(folder, model, "evaluation_validation_accuracy")
    kept = None
    for step, value in ((1, 0.1), (2, None), (3, 0.05), (4, 0.3), (5, 0.3), (6, 0.2)):
        folder.add({"step": step, "evaluation_accuracy": step})
        if value is not None:
            folder.add({"step": step, "evaluation_validation_accuracy": value})
        train(model, 1)
        best.keep_if_best(step)
        if step == 4:
            kept = [np.array(weight) for weight in model.get_weights()]
    again = small_model()
    assert Checkpoints(folder.chosen, again).restore() == 4
    for a, b in zip(kept, again.get_weights(), strict=True):
        npt.assert_array_equal(a, b)


def test_training_goes_on_from_a_later_state_that_was_chosen(tmp_path):
    """Else it could stay the chosen one, while the log has forgotten its step."""
    model, folder = small_model(), RunFolder(tmp_path, {})
    checkpoints = Checkpoints(folder.checkpoints, model)
    checkpoints.save(5)
    assert checkpoints.restore(folder.chosen) == 5
    folder.add({"step": 13, "evaluation_validation_accuracy": 0.5})
    train(model, 1)
    BestCheckpoint(folder, model, "evaluation_validation_accuracy").keep_if_best(13)
    kept = [np.array(weight) for weight in model.get_weights()]
    again = small_model()
    assert Checkpoints(folder.checkpoints, again).restore(folder.chosen) == 13
    for a, b in zip(kept, again.get_weights(), strict=True):
        npt.assert_array_equal(a, b)


def test_without_held_out_data_no_state_is_chosen(tmp_path):
    folder = RunFolder(tmp_path, {})
    folder.add({"step": 1, "evaluation_accuracy": 0.5})
    model = small_model()
    BestCheckpoint(folder, model, "evaluation_validation_accuracy").keep_if_best(1)
    assert Checkpoints(folder.chosen, model).restore() == 0


def test_the_commit_is_asked_before_the_checkout_can_change(monkeypatch):
    order = []

    def build(*_):
        order.append("build")
        raise StopIteration

    monkeypatch.setattr(long_training, "build", build)
    monkeypatch.setattr(provenance, "describe", lambda: order.append("commit"))
    with pytest.raises(StopIteration):
        long_training.train(None, sweeps.Run("single", SETTINGS, 0), None, None)
    assert order == ["commit", "build"]


# ---- Several replicas


def test_learning_rate_of_every_kind_of_optimizer():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.5, 0.25])
    legacy = [] if KERAS_3 else [keras.optimizers.legacy]
    for kind in (keras.optimizers, *legacy):
        for rate in (0.5, schedule):
            optimizer = kind.SGD(rate)
            found = tf.convert_to_tensor(long_training.learning_rate_of(optimizer))
            assert float(found) == 0.5


def test_fewer_steps_than_were_made_are_refused(monkeypatch, tmp_path):
    made = types.SimpleNamespace(restore=lambda *_: 7)
    monkeypatch.setattr(long_training, "build", lambda *given: (None, None, made))
    run = sweeps.Run("single", SETTINGS.with_changes(steps=5), 0)
    rule = "`steps` must not be less than what single-seed0 has made, 7 in all"
    with pytest.raises(SettingError, match=rule):
        long_training.train(Experiment(), run, RunFolder(tmp_path, {}), None)


def several_replicas(monkeypatch, count, **settings):
    """A run, to be trained by so many replicas."""
    strategy = types.SimpleNamespace(num_replicas_in_sync=count)
    workers = types.SimpleNamespace(
        strategy=strategy,
        number=0,
        count=1,
        share_training=lambda make, whole: make(),
    )
    monkeypatch.setattr(long_training, "workers_of", lambda settings: workers)
    return sweeps.Run("single", SETTINGS.with_changes(**settings), 0)


def test_a_batch_that_replicas_cannot_share_is_refused(monkeypatch, tmp_path):
    run = several_replicas(monkeypatch, 3, batch_size=32)
    rule = "`batch_size` must be a multiple of the 3 replicas.*Received: batch_size=32"
    with pytest.raises(SettingError, match=rule):
        long_training.train(Experiment(), run, RunFolder(tmp_path, {}), None)


def test_a_smaller_last_batch_is_refused_where_replicas_share_it(monkeypatch):
    whole = tf.data.Dataset.range(40).batch(10, drop_remainder=True)
    open_size = tf.data.Dataset.range(45).batch(10)
    study = Experiment()
    for replicas, data, allowed in (
        *((1, whole, True), (1, open_size, True)),
        *((2, whole, True), (2, open_size, False)),
    ):
        run = several_replicas(monkeypatch, replicas, batch_size=10)
        study.training_data = lambda run, step, data=data: data
        if allowed:
            assert long_training._training_data(study, run, 0) is data
        else:
            rule = "`batch_size` must divide the training examples where several"
            with pytest.raises(SettingError, match=rule):
                long_training._training_data(study, run, 0)


def test_workers_without_one_folder_are_refused(tmp_path):
    workers = Workers("default")
    workers.check_shared(tmp_path, 5)
    workers.gather = lambda step: [step, 0]
    with pytest.raises(
        SettingError, match=r"one folder for all.*found the steps \[5, 0"
    ):
        workers.check_shared(tmp_path, 5)


def test_workers_but_the_first_write_nothing(tmp_path):
    folder = RunFolder(tmp_path / "run", {"a": 1}, writes=False)
    folder.add({"step": 1})
    folder.finish({})
    checkpoints = Checkpoints(folder.checkpoints, small_model(), writes=False)
    checkpoints.save(1)
    assert not (tmp_path / "run").exists() and folder.log == [{"step": 1}]


# ---- Folders of runs


def test_plots_of_a_sweep_keep_models_apart(tmp_path, monkeypatch):
    finished = []
    for model, value, changes in (
        *(("single", 0.1, {}), ("bagging", 0.2, {})),
        *(("small", 0.3, {"steps": 1}), ("small", 0.4, {"steps": 2})),
        *(("large", 0.8, {"steps": 1}), ("large", 0.9, {"steps": 2})),
    ):
        result = {"metrics": {"accuracy": value}}
        folder = types.SimpleNamespace(log=[], result=lambda result=result: result)
        finished.append((sweeps.Run(model, SETTINGS, 0, changes), folder))
    drawn = []
    monkeypatch.setattr(run_table.plots, "logged_curves", lambda *_: None)
    monkeypatch.setattr(
        run_table.plots,
        "accuracy_by_weight",
        lambda path, *given, measure: drawn.append(given[:2]),
    )
    study = Experiment()
    study.title, study.measures = "", (Measure("accuracy", "accuracy"),)
    run_table._plot(study, finished, tmp_path)
    panels = {"steps of small": {1: [0.3], 2: [0.4]}}
    panels |= {"steps of large": {1: [0.8], 2: [0.9]}}
    assert drawn == [(panels, {"single": [0.1], "bagging": [0.2]})]


def test_log_forgets_what_will_be_done_again(tmp_path):
    folder = RunFolder(tmp_path / "run", {"a": 1})
    for step in (2, 4, 6):
        folder.add({"step": step, "loss": step / 2})
    folder.add({"step": 6, "gap": 0.5})
    with open(tmp_path / "run" / "metrics.jsonl", "a") as file:
        file.write('{"step": 8, "lo')  # the computer went down here
    again = RunFolder(tmp_path / "run", {"a": 1})
    assert [record["step"] for record in again.log] == [2, 4, 6, 6]
    again.forget_after(4)
    with open(tmp_path / "run" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"step": "2", "loss": "1.0"}, {"step": "4", "loss": "2.0"}]
    assert again.result() is None
    again.finish({"gap": 0.5})
    assert RunFolder(tmp_path / "run").result() == {"gap": 0.5}


def test_folder_of_another_configuration(tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    (tmp_path / "evaluation.json").write_text("{}")
    RunFolder(tmp_path, {"classes": 3, "seed": 0}).finish({})
    with pytest.raises(SettingError, match="classes is 3 there and 4 here"):
        RunFolder(tmp_path, {"classes": 4, "seed": 0})
    renewed = RunFolder(tmp_path, {"classes": 4, "seed": 0}, overwrite=True)
    assert renewed.result() is None and (tmp_path / "mine.txt").exists()
    assert not (tmp_path / "evaluation.json").exists()


def test_a_flag_put_right_before_the_first_step_needs_no_other_folder(tmp_path):
    RunFolder(tmp_path, {"rate": 9}).forget_after(0)  # as a run that fails at once
    RunFolder(tmp_path, {"rate": 1}).add({"step": 1})
    with pytest.raises(SettingError, match="rate is 1 there and 9 here"):
        RunFolder(tmp_path, {"rate": 9})
    assert RunFolder(tmp_path, {"rate": 1}).log == [{"step": 1}]


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="`workdir` must be a folder that can be wr"):
        RunFolder(tmp_path / "file" / "run", {})
    for path in (tmp_path / "file" / "p.csv", tmp_path):
        with pytest.raises(SettingError, match="`output` must "):
            with folders.new_file(path):
                pass


def test_an_output_is_there_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "predictions.csv"
    with pytest.raises(KeyboardInterrupt), folders.new_file(path) as file:
        file.write("a\n")
        raise KeyboardInterrupt
    assert not path.exists()
    with folders.new_file(path) as file:
        file.write("b\n")
    assert path.read_text(encoding="utf-8") == "b\n"
    assert [one.name for one in path.parent.iterdir()] == ["predictions.csv"]
