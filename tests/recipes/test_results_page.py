"""The page of results: what stands in it, and what does not."""

import importlib
import json
import re
import shutil

import pytest

import zoo
from recipes import kept_results, published_results, results_page, treenet_experiment
from recipes.common import SettingError, command_line
from recipes.found_runs import find_runs
from recipes.published_results import Figure, Paper
from recipes.run_folder import RunFolder
from tests.conftest import CHECKOUT

PAPERS = {"known": Paper("Known", "200 epochs"), "idle": Paper("Idle", "1 epoch")}
FIGURES = [
    Figure("known", "heads", "accuracy", 0.897, "Webb et al., Table 2", {"lambda": 1}),
    Figure("known", "heads", "accuracy", 0.5, "Webb et al., Table 2", {"lambda": 2}),
    Figure("idle", "net", "oracle_accuracy", 0.25, "Lee et al., Table 1"),
]
MEASURES = [
    {"name": "accuracy", "title": "accuracy", "percent": True},
    {"name": "cross_entropy", "title": "cross entropy", "percent": False},
    {"name": "oracle_accuracy", "title": "oracle", "percent": True},
]
MADE_BY = {
    "command": "python recipes/cifar_one.py --workdir=…",
    "commit": "abc1234",
    "machine": "2-core CPU",
    "tensorflow": "2.15.1",
    "keras": "2.15.0",
    "python": "3.11.9",
}


def run(root, model, seed, metrics=None, recipe="known", made_by=None, **config):
    """Makes a run's folder; one without metrics is not finished."""
    config = {"batch_size": 500, **config}
    config = {"recipe": recipe, "model": model, "seed": seed, **config}
    folder = RunFolder(root / f"{model}{config.get('lambda', '')}-seed{seed}", config)
    folder.add({"step": 1200, "train_loss": 1.0})
    if metrics is not None:
        folder.finish(
            {
                "method": f"{model} lambda={config.get('lambda', 0)}",
                "changes": {},
                "step": 2000,
                "measures": MEASURES,
                "metrics": metrics,
                "sizes": {"parameters": 1234567},
                "examples_per_second": 100.0,
                **MADE_BY,
                **(made_by or {}),
            }
        )
    return folder.path


def page_of(tmp_path, *roots):
    page = tmp_path / "docs" / "results.md"
    kept_results.keep(roots, results_page.kept_beside(page))
    results_page.write_page(page, FIGURES, PAPERS)
    return page.read_text(encoding="utf-8")


def rows_of(text):
    """Cells of every line of a table."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.fixture
def runs(tmp_path):
    root = tmp_path / "runs" / "paper_tf2.15"
    heads = {"cross_entropy": 0.25, "oracle_accuracy": 0.95}
    run(root, "heads", 0, {"accuracy": 0.89, **heads}, **{"lambda": 1})
    newer = {"commit": "def5678"}
    run(root, "heads", 1, {"accuracy": 0.91, **heads}, made_by=newer, **{"lambda": 1})
    run(root, "heads", 0, {"accuracy": 0.8, **heads}, **{"lambda": 0})
    run(root, "single", 0, {"accuracy": 0.7, "cross_entropy": 0.5})
    return root.parent


def test_means_errors_and_the_papers_figures_stand_side_by_side(tmp_path, runs):
    title, _, *rows = rows_of(page_of(tmp_path, runs))
    assert title[:3] == ["method", "seeds", "accuracy %"]
    cells = {row[0]: dict(zip(title, row)) for row in rows}
    best = cells["`heads lambda=1`"]
    # Half the difference of two values is their mean's standard error.
    assert best["accuracy %"] == "90.00 ± 1.00" and best["seeds"] == "0, 1"
    assert best["*paper's accuracy*"] == "*89.70*"
    assert best["cross entropy"] == "0.25 ± 0"
    assert (best["steps"], best["parameters"]) == ("2,000", "1,234,567")
    other = cells["`heads lambda=0`"]
    assert (other["accuracy %"], other["*paper's accuracy*"]) == ("80.00 ± n/a", "")
    single = cells["`single lambda=0`"]
    assert (single["oracle %"], single["examples/s"]) == ("n/a", "100")
    assert single["hours"] == "2.8"  # 2,000 steps of 500


def test_every_number_says_how_it_was_made(tmp_path, runs):
    text = page_of(tmp_path, runs)
    title, _, *rows = rows_of(text)
    makers = {row[0]: row[title.index("made by")] for row in rows if len(row) > 4}
    (old,) = re.findall(r"^(\d)\. .*abc1234", text, re.MULTILINE)
    (new,) = re.findall(r"^(\d)\. .*def5678", text, re.MULTILINE)
    assert makers["`heads lambda=1`"] == ", ".join(sorted((old, new)))
    assert makers["`single lambda=0`"] == old
    assert (
        f"{old}. `python recipes/cifar_one.py --workdir=…`, commit abc1234, "
        "2-core CPU, TensorFlow 2.15.1, Keras 2.15.0, Python 3.11.9"
    ) in text
    assert "Common settings: batch_size 500." in text
    assert "Webb et al., Table 2" in text and "### `paper_tf2.15`" in text


def test_runs_of_other_settings_are_rows_of_their_own(tmp_path, runs):
    root = runs / "paper_tf2.15"
    worse = {"accuracy": 0.1, "cross_entropy": 2.0, "oracle_accuracy": 0.2}
    run(root, "heads", 5, worse, precision="mixed_bfloat16", **{"lambda": 1})
    title, _, *rows = rows_of(page_of(tmp_path, runs))
    found = {
        row[1]: (row[2], row[title.index("other settings")])
        for row in rows
        if row[0] == "`heads lambda=1`"
    }
    assert found == {
        "0, 1": ("90.00 ± 1.00", "lambda 1"),
        "5": ("10.00 ± n/a", "precision mixed_bfloat16, lambda 1"),
    }


def test_what_a_sweep_names_or_leaves_untouched_is_no_other_setting(tmp_path):
    root = tmp_path / "runs" / "sweep"
    for model, value, changes in (
        *(("heads", 0, {"lambda": 0}), ("heads", 1, {"lambda": 1})),
        ("single", 3, {}),
    ):
        folder = RunFolder(run(root, model, 0, {"accuracy": 0.5}, **{"lambda": value}))
        folder.finish({**folder.result(), "changes": changes})
    text = page_of(tmp_path, root.parent)
    assert "other settings" not in text and "lambda 3" not in text


def test_no_run_counts_twice(runs):
    once = find_runs([runs])
    assert len(find_runs([runs, runs / "paper_tf2.15", runs])) == len(once) == 4


def test_where_a_teacher_lies_is_not_told(tmp_path):
    teacher = str(tmp_path / "single-seed0")
    run(tmp_path / "runs", "net", 0, {"accuracy": 0.5}, teacher=teacher)
    text = page_of(tmp_path, tmp_path / "runs")
    assert "teacher single-seed0." in text and str(tmp_path) not in text
    (kept,) = (tmp_path / "docs").rglob("config.json")
    assert json.loads(kept.read_text(encoding="utf-8"))["teacher"] == "single-seed0"
    assert command_line(["one.py", f"--teacher={teacher}"]).endswith("--teacher=…")


def test_what_is_missing_is_said_to_be(tmp_path, runs):
    text = page_of(tmp_path, runs)
    known, idle = text.split("## Idle")
    assert "No run yet" not in known and "No run yet" in idle
    assert ["`heads` lambda=2", "accuracy", "*50.00*", "Webb et al., Table 2"] in (
        rows_of(known)
    )
    assert ["`net`", "oracle accuracy", "*25.00*", "Lee et al., Table 1"] in (
        rows_of(idle)
    )
    assert "`heads` lambda=1" not in text  # measured


def test_unfinished_runs_and_made_up_data_are_left_out_and_named(tmp_path, runs):
    waiting = run(runs / "paper_tf2.15", "heads", 2, **{"lambda": 1})
    made_up = {"accuracy": 0.123, "cross_entropy": 1.0}
    smoke = run(runs / "smoke", "heads", 0, made_up, synthetic=100, **{"lambda": 2})
    kept, left_out = kept_results.keep([runs], tmp_path / "docs" / "results")
    assert len(kept) == 4 and {one.path for one in left_out} == {waiting, smoke}
    text = page_of(tmp_path, runs)
    assert "12.30" not in text and "smoke" not in text and "0, 1, 2" not in text


def test_a_page_outlives_the_folders_of_its_runs(tmp_path, runs):
    """Seeds that another machine trains later are added to those kept."""
    first = page_of(tmp_path, runs)
    later = tmp_path / "later" / "paper_tf2.15"
    run(later, "single", 1, {"accuracy": 0.9, "cross_entropy": 0.7})
    shutil.rmtree(runs)
    assert page_of(tmp_path) == first
    rows = {row[0]: row for row in rows_of(page_of(tmp_path, later))}
    assert rows["`single lambda=0`"][1:3] == ["0, 1", "80.00 ± 10.00"]
    assert rows["`heads lambda=1`"][1:3] == ["0, 1", "90.00 ± 1.00"]


def test_a_kept_run_is_replaced_only_by_one_of_its_settings(tmp_path, runs):
    page_of(tmp_path, runs)
    again, other = tmp_path / "again", tmp_path / "other"
    metrics = {"accuracy": 0.75, "cross_entropy": 0.5}
    run(again / "paper_tf2.15", "single", 0, metrics)
    assert "75.00 ± n/a" in page_of(tmp_path, again)
    before = {**metrics, "accuracy": 0.99}
    run(other / "paper_tf2.15", "heads", 7, before)
    path = run(other / "paper_tf2.15", "single", 0, metrics, batch_size=100)
    with pytest.raises(SettingError, match="single-seed0 differs in batch_size") as e:
        page_of(tmp_path, other)
    assert str(path) in str(e.value)
    shorter = RunFolder(run(tmp_path / "short/paper_tf2.15", "single", 0, metrics))
    shorter.finish({**shorter.result(), "step": 10})
    with pytest.raises(SettingError, match="differs in steps, 10 after 2000"):
        page_of(tmp_path, tmp_path / "short")
    with pytest.raises(SettingError, match="each run once, but .*again.* is called"):
        page_of(tmp_path, again, tmp_path / "short")
    assert "99.00" not in page_of(tmp_path)  # nothing was copied


def test_recipes_without_a_paper_have_a_section_too(tmp_path, runs):
    run(runs / "own", "net", 0, {"accuracy": 0.5}, recipe="ours")
    assert "## ours" in page_of(tmp_path, runs)


def test_plots_are_kept_and_older_ones_go(tmp_path, runs):
    workdir = runs / "paper_tf2.15"
    (workdir / "analyses").mkdir()
    for name in ("learning_curves.png", "analyses/error_by_lambda.png"):
        (workdir / name).write_bytes(name.encode())
    kept = tmp_path / "docs" / "results" / "known" / "paper_tf2.15"
    kept.mkdir(parents=True)
    (kept / "old.png").write_bytes(b"")
    shown = re.findall(r"!\[.*?\]\((.*?)\)", page_of(tmp_path, runs))
    assert shown == [
        "results/known/paper_tf2.15/error_by_lambda.png",
        "results/known/paper_tf2.15/learning_curves.png",
    ]
    copied = (tmp_path / "docs" / shown[0]).read_bytes()
    assert copied == b"analyses/error_by_lambda.png"
    assert not (kept / "old.png").exists()


def test_the_same_runs_give_the_same_page(tmp_path, runs):
    first = page_of(tmp_path / "a", runs)
    assert first == page_of(tmp_path / "b", runs)
    assert str(tmp_path) not in first


def test_folders_that_are_not_there_are_named(tmp_path):
    with pytest.raises(SettingError, match="`runs` must be folders that exist"):
        find_runs([tmp_path / "nowhere"])


def test_commands_name_no_folder_of_the_machine():
    words = [
        "there/recipes/cifar_one.py",
        "train",
        "--data_dir",
        "my data",
        "-workdir=~/runs",
    ]
    words += ["--sweep=coupling=0,1", "--title=two words", "--output_size=3"]
    assert command_line(words) == (
        "python recipes/cifar_one.py train --data_dir … -workdir=… "
        "--sweep=coupling=0,1 '--title=two words' --output_size=3"
    )


# ---- What is committed


def test_the_committed_page_is_what_the_kept_runs_give(tmp_path):
    docs = CHECKOUT / "docs"
    shutil.copytree(docs / "results", tmp_path / "results")
    results_page.write_page(tmp_path / "results.md")
    written = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert written == (docs / "results.md").read_text(encoding="utf-8"), (
        "run `python recipes/results_page.py`"
    )


def test_published_figures_are_accuracies_and_stand_once():
    keys = [
        (f.recipe, f.model, f.measure, *sorted(f.settings.items(), key=str))
        for f in published_results.FIGURES
    ]
    assert len(set(keys)) == len(keys)
    for figure in published_results.FIGURES:
        assert figure.recipe in published_results.PAPERS
        assert 0.1 < figure.value < 1
    (one,) = [
        figure
        for figure in published_results.FIGURES
        if figure.model == "mlp_256m_4h" and figure.settings["coupling"] == 0.95
    ]
    assert one.value == pytest.approx(1 - 0.103)


@pytest.mark.parametrize("recipe", published_results.PAPERS)
def test_published_figures_can_be_met(recipe):
    """By a run that the recipe's settings can describe."""
    module = importlib.import_module(f"recipes.{recipe}")
    assert (CHECKOUT / "recipes" / f"{recipe}.py").exists()
    preset = next(iter(module.PRESETS.values()))
    fields = preset.as_dict()
    known = getattr(module, "METHODS", None) or zoo.names()
    if isinstance(preset, treenet_experiment.TreeNetSettings):
        known = treenet_experiment.METHODS
    for figure in published_results.FIGURES:
        if figure.recipe == recipe:
            assert figure.settings.keys() <= fields.keys()
            assert figure.model in known
