"""Which runs a call of a recipe takes, under which settings, and where."""

import types
from pathlib import Path

import pytest

from recipes import common, long_runs, sweeps
from recipes.common import SettingError
from recipes.experiment import Experiment, TrainingSettings
from recipes.run_folder import RunFolder

SETTINGS = TrainingSettings(models=("single", "heads"), seeds=2)


# ---- Sweeps


def test_every_value_of_every_model_and_seed_is_a_run():
    swept = sweeps.parse(TrainingSettings, ["batch_size=8,16", "precision=float32"])
    assert swept == {"batch_size": [8, 16], "precision": ["float32"]}
    runs = sweeps.runs_of(SETTINGS, swept, lambda model, name: model == "heads")
    assert [run.key for run in runs] == [
        "single-seed0",
        "heads_batch_size_8_precision_float32-seed0",
        "heads_batch_size_16_precision_float32-seed0",
        "single-seed1",
        "heads_batch_size_8_precision_float32-seed1",
        "heads_batch_size_16_precision_float32-seed1",
    ]
    assert [run.settings.batch_size for run in runs[:3]] == [32, 8, 16]
    assert runs[0].changes == {} and runs[2].method == (
        "heads batch_size=16 precision=float32"
    )


@pytest.mark.parametrize("name", ["auto", "mirrored"])
def test_one_device_does_what_is_no_training(name):
    settings = SETTINGS.with_changes(strategy=name)
    for command in ("predict", "export", "report", "analyse"):
        assert long_runs._with_strategy(settings, command).strategy == "default"
    for command in ("train", "evaluate"):
        assert long_runs._with_strategy(settings, command).strategy == name


@pytest.mark.parametrize(
    "texts, message",
    [
        (["batch"], "be a setting and its values"),
        (["mu=1"], "be a setting and its values.*the settings are steps, batch_size"),
        (["models=single,heads"], "be a setting and its values"),
        (["seeds=1,2"], "be a setting and its values"),
        (["steps="], "be a setting and its values"),
        (["steps=1", "steps=2"], "be a setting and its values.*each"),
        (["steps=1,x"], "hold values that fit"),
        (["steps=1,1"], "hold each value once"),
    ],
)
def test_bad_sweeps(texts, message):
    with pytest.raises(SettingError, match=f"`sweep` must {message}"):
        sweeps.parse(TrainingSettings, texts)


def test_a_trained_run_keeps_its_settings_where_no_flag_says_otherwise(
    tmp_path, monkeypatch
):
    given = {name: types.SimpleNamespace(present=0) for name in SETTINGS.as_dict()}
    given["precision"] = given["steps"] = types.SimpleNamespace(present=1)
    monkeypatch.setattr(long_runs.flags, "FLAGS", given)
    settings = SETTINGS.with_changes(steps=5, precision="mixed_float16")
    run = sweeps.Run("heads", settings, 1, {"steps": 5})
    assert long_runs._as_trained(run, tmp_path) == run  # nothing is there yet
    config = {"batch_size": 8, "precision": "mixed_bfloat16", "steps": 5, "seed": 1}
    RunFolder(tmp_path / run.key, config)
    found = long_runs._as_trained(run, tmp_path)
    assert found.settings == settings.with_changes(batch_size=8)
    assert (found.key, found.changes) == (run.key, run.changes)


def test_without_a_choice_all_that_a_workdir_holds_is_taken(tmp_path):
    study = Experiment()
    study.name = "study"
    wanted = sweeps.runs_of(SETTINGS, {}, lambda model, name: True)
    nowhere = tmp_path / "new"
    assert long_runs._with_found(wanted, study, SETTINGS, nowhere) == (wanted, [])
    for seed, folder, recipe in (
        *((0, tmp_path, "study"), (1, tmp_path, "another")),
        (2, tmp_path / "inside", "study"),
    ):
        config = {"recipe": recipe, "model": "heads", "seed": seed}
        one = sweeps.Run("heads", SETTINGS, seed, {"steps": 5})
        RunFolder(folder / one.key, config).finish({"changes": {"steps": 5}})
    finished = sweeps.Run("heads", SETTINGS, 0, {"steps": 5})
    found = long_runs._with_found(wanted, study, SETTINGS, tmp_path)
    assert found == ([finished], [])
    (tmp_path / wanted[2].key).mkdir()  # of a run that has begun
    swept = sweeps.Run("heads", SETTINGS, 0, {"steps": 7})
    config = {"recipe": "study", "model": "heads", "seed": 0}
    RunFolder(tmp_path / swept.key, config)
    runs, unfinished = long_runs._with_found(wanted, study, SETTINGS, tmp_path)
    assert [run.key for run in runs] == ["heads_steps_5-seed0", "single-seed1"]
    assert unfinished == ["heads_steps_7-seed0"]


@pytest.mark.parametrize("flag, command", [("run", "report"), ("output", "evaluate")])
def test_flags_that_a_command_does_not_look_at_are_refused(monkeypatch, flag, command):
    given = {name: types.SimpleNamespace(value=None) for name in ("run", "output")}
    monkeypatch.setattr(long_runs.flags, "FLAGS", given)
    long_runs._check_flags(command)
    given[flag].value = "x"
    with pytest.raises(SettingError, match=f"`{flag}` must be left out to {command}"):
        long_runs._check_flags(command)
    long_runs._check_flags("predict")


def test_overwriting_throws_all_earlier_runs_away_at_once(tmp_path, monkeypatch):
    """Stopped after the first, the others must not be taken for new ones."""
    study = Experiment()
    runs = [sweeps.Run("heads", SETTINGS, seed) for seed in (0, 1)]
    for run in runs:
        folder = RunFolder(tmp_path / run.key, study.config(run))
        folder.finish({"step": 5, "metrics": {}})

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(long_runs.long_training, "train", stop)
    with pytest.raises(KeyboardInterrupt):
        long_runs.Session(study, runs, tmp_path, overwrite=True).train()
    assert [RunFolder(tmp_path / run.key).result() for run in runs] == [None, None]


def test_nothing_trained_is_nothing_to_analyse(tmp_path, monkeypatch):
    runs = sweeps.runs_of(SETTINGS, {}, lambda model, name: True)
    session = long_runs.Session(Experiment(), runs, tmp_path / "new")
    monkeypatch.setattr(long_runs.flags, "FLAGS", types.SimpleNamespace(run=None))
    with pytest.raises(SettingError, match="`workdir` must hold a trained run"):
        session.analyse()


def test_seeds_of_other_settings_are_not_averaged(tmp_path):
    study = Experiment()
    other = SETTINGS.with_changes(batch_size=8)
    runs = [
        sweeps.Run("heads", one, seed) for seed, one in enumerate([SETTINGS, other])
    ]
    session = long_runs.Session(study, runs, tmp_path)
    for run, steps in zip(runs, (5, 7), strict=True):
        RunFolder(tmp_path / run.key, study.config(run)).finish({"step": steps})
    rule = "heads-seed0 and heads-seed1 differ in steps, batch_size: choose by --models"
    with pytest.raises(SettingError, match=rule):
        session.report()
    session._check_seeds([(runs[0], session.folder(runs[0]))])


def test_places_on_this_machine(monkeypatch):
    given = {"workdir": types.SimpleNamespace(value="")}
    monkeypatch.setattr(common.flags, "FLAGS", given)
    assert common.folder("workdir") is None
    given["workdir"].value = "~/runs"
    assert common.folder("workdir") == Path.home() / "runs"
    given["workdir"].value = "gs://bucket/runs"
    with pytest.raises(SettingError, match="`workdir` must be a local or mounted"):
        common.folder("workdir")
