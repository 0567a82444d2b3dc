"""A folder of runs: what is kept, what is refused, what overwriting removes."""

import json

import pytest

from ensemble_heads.keras_api import keras
from recipes.common import SettingError
from recipes.workdir import Workdir


@pytest.fixture(scope="module")
def model():
    inputs = keras.Input((1,))
    return keras.Model(inputs, keras.layers.Dense(1)(inputs))


def test_finished_runs_are_found_again(tmp_path, model):
    first = Workdir(tmp_path / "new" / "folder", {"epochs": 1, "widths": (1, 2)})
    assert not first.is_finished("a")
    first.add("a", {"accuracy": 0.5}, model)
    first.add("b", {"accuracy": 0.75}, model)
    again = Workdir(first.path, {"epochs": 1, "widths": (1, 2)})
    assert again.records == {
        "a": {"run": "a", "accuracy": 0.5},
        "b": {"run": "b", "accuracy": 0.75},
    }
    assert again.is_finished("a") and again.is_finished("b")
    loaded = keras.saving.load_model(again.model_path("a"))
    assert loaded.get_weights()[0] == model.get_weights()[0]


def test_a_run_without_its_model_or_line_is_not_finished(tmp_path, model):
    workdir = Workdir(tmp_path, {})
    workdir.add("a", {}, model)
    workdir.add("b", {}, model)
    workdir.model_path("a").unlink()
    path = tmp_path / "results.jsonl"
    text = path.read_text(encoding="utf-8")
    path.write_text(text[:-5], encoding="utf-8")  # cut off in the middle of "b"
    again = Workdir(tmp_path, {})
    assert not again.is_finished("a") and not again.is_finished("b")
    again.add("b", {}, model)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["run"] for line in lines] == ["a", "b"]


def test_other_settings_are_refused_by_name(tmp_path):
    Workdir(tmp_path, {"epochs": 1, "seed": 3})
    with pytest.raises(SettingError, match="epochs is 1 there and 2 here") as caught:
        Workdir(tmp_path, {"epochs": 2, "seed": 3})
    assert "seed" not in caught.value.rule
    text = caught.value.as_flag()
    assert text.startswith("--workdir must") and f"--workdir={tmp_path}" in text


def test_a_broken_config_is_no_crash(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(SettingError, match="config.json that can be read"):
        Workdir(tmp_path, {})


def test_overwriting_removes_its_own_files_only(tmp_path, model):
    workdir = Workdir(tmp_path, {"epochs": 1})
    workdir.add("a", {}, model)
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "x").write_text("")
    (tmp_path / "thesis.txt").write_text("years of work")
    again = Workdir(tmp_path, {"epochs": 2}, overwrite=True, artifacts=("export",))
    assert again.records == {} and not again.is_finished("a")
    assert not (tmp_path / "export").exists()
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    assert json.loads((tmp_path / "config.json").read_text()) == {"epochs": 2}


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError) as caught:
        Workdir(tmp_path / "file" / "runs", {})
    message = caught.value.as_flag()
    assert message.startswith("--workdir must be a folder that can be written (Not a")
    assert message.endswith("file/runs")
