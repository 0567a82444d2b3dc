"""The detection recipe: what it writes, that it learns, and what bad flags get."""

import csv
import re

import numpy as np
import pytest
import tensorflow as tf

from ensemble_heads.keras_api import keras
from recipes import detection_treenet as recipe
from recipes.common import Options, SettingError
from tests.recipes import short_runs

pytestmark = [pytest.mark.slow, pytest.mark.line("2.15")]

SMOKE = recipe.PRESETS["smoke"]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """(what the smoke preset printed, its workdir), run once as users run it."""
    return short_runs.run_smoke("detection_treenet", tmp_path_factory.mktemp("smoke"))


def test_every_run_is_recorded_and_learns(smoke):
    records = short_runs.records_of(smoke[1])
    assert [r["run"] for r in records] == ["single-seed0", "conv1-seed0"]
    for record, heads in zip(records, (0, 2), strict=True):
        losses = record["train_loss"]
        assert len(losses) == SMOKE.epochs and np.isfinite(losses).all()
        assert losses[-1] < 0.8 * losses[0]
        assert 0.2 < record["map"] <= 1 and 0.2 < record["map_of_proposals"] <= 1
        assert record["map"] == pytest.approx(np.mean(record["class_aps"]), abs=1e-6)
        assert record["examples"] == SMOKE.test_examples
        assert len(record["head_maps"]) == heads
        assert record["tensorflow"] == tf.__version__ and "commit" in record
    single, tree = records
    assert single["parameters"] < tree["parameters"] < 2 * single["parameters"]


def test_the_table_says_what_the_records_say(smoke):
    printed, workdir = smoke
    with open(workdir / "table.csv", newline="", encoding="utf-8") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["single detector", "split at conv1"]
    for row, record in zip(rows.values(), short_runs.records_of(workdir), strict=True):
        assert float(row["map"]) == record["map"]
        assert row["map_standard_error"] == ""
        text = f"{100 * record['map']:.2f}"
        assert f"| {text} ± n/a |" in (workdir / "table.md").read_text("utf-8")
        assert re.search(rf"{row['method']} +{re.escape(text)} ± n/a", printed)


def test_finished_runs_are_not_done_again(smoke, monkeypatch, capsys):
    def refuse(*arguments):
        raise AssertionError("trained again")

    monkeypatch.setattr(recipe, "train", refuse)
    recipe.main(SMOKE, Options("smoke", smoke[1]))
    assert "split at conv1" in capsys.readouterr().out
    with pytest.raises(SettingError, match="epochs is 16 there and 7 here"):
        recipe.main(SMOKE.with_changes(epochs=7), Options("smoke", smoke[1]))


def test_errors_over_the_seeds():
    maps, heads = (0.5, 0.7), ([0.4, 0.5], [0.5, 0.6])
    records = [
        {
            **{"method": method, "map": one + gain, "map_of_proposals": one - 0.1},
            **{"head_maps": some, "parameters": 1000, "seed": seed},
        }
        for seed, (one, some) in enumerate(zip(maps, heads, strict=True))
        for method, gain in (("conv1", 0.0), ("single", -0.1 - 0.1 * seed))
    ]
    row, _ = recipe.summarise(records)
    assert row["gain"] == pytest.approx((0.15, 0.05))
    assert row["map"] == pytest.approx((0.6, 0.1))
    assert row["map_of_proposals"] == pytest.approx((0.5, 0.1))
    assert row["head_map"] == pytest.approx((0.5, 0.05))


def test_heads_are_measured_alone(smoke):
    """A tree's second head is what `head(1)` detects."""
    tree = keras.models.load_model(smoke[1] / "models" / "conv1-seed0.keras")
    test = recipe.load(SMOKE, "test", 0, batch_size=25, targets="objects")
    whole = recipe.evaluate(tree, test, SMOKE.test_examples)
    alone = recipe.evaluate(tree.head(1), test, SMOKE.test_examples)
    assert whole["head_maps"][1] == pytest.approx(alone["map"], abs=1e-3)
    recorded = short_runs.records_of(smoke[1])[1]
    assert whole["map"] == pytest.approx(recorded["map"], abs=1e-3)
    with pytest.raises(RuntimeError, match="must see 51 scenes exactly once"):
        recipe.evaluate(tree.head(1), test, SMOKE.test_examples + 1)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"seeds": 0}, "--seeds must be at least 1. Received: --seeds=0"),
        ({"forks": ("conv9",)}, "--forks must name forks among image, conv1, conv2"),
        ({"forks": ("conv1", "conv1")}, "--forks must name each fork once"),
        ({"proposals": 5}, "--proposals must be at least 20"),
        ({"image_size": 4}, "--image_size must be at least 16"),
        ({"filters": ()}, "--filters must hold at least one"),
        ({"width_multiplier": 0.0}, r"--width_multiplier must be in \(0, 4\]"),
        ({"learning_rate": 0.0}, "--learning_rate must be above 0"),
    ],
)
def test_bad_settings_are_named_as_flags(changes, message):
    with pytest.raises(SettingError) as caught:
        SMOKE.with_changes(**changes)
    assert re.search(message, caught.value.as_flag())
