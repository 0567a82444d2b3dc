r"""docs/results.md out of the folders of runs: ours and the papers', none by hand.

    python recipes/results_page.py --runs=runs
    python recipes/results_page.py --runs=runs,more_runs --page=docs/results.md

Looks in the folders, at any depth, for runs of the long-run recipes. A table for each
workdir has a row per method (and settings, where these differ): mean and standard error
over the seeds, what the paper has (`recipes/published_results.py`), steps and sizes;
below it commands, commits, machines and versions, the settings, and the plots that
`report` and `analyse` have drawn, which are copied beside the page. Published figures
of which there is no run are listed as such, and so are runs that are not finished; runs
on synthetic data are left out. The same runs give the same page.
"""

import json
import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

from recipes import common, folders, results
from recipes.found_runs import find_runs
from recipes.published_results import FIGURES, PAPERS
from recipes.results import NOT_KNOWN, Column, mean_and_error
from recipes.run_folder import ANALYSES

INTRODUCTION = """\
# Results

Written by `python recipes/results_page.py` from the files of the runs; changes by hand
are lost. Means ± standard errors of the mean over the seeds. Beside them the figures of
the papers, in italics and with their source below the table; where a paper prints an
error, it is 100 % minus that. "Made by" says with which command, commit and machine.
"""
PICTURES = "results"  # beside the page
SYNTHETIC = ("synthetic", "synthetic_videos")
# What says which run it is, or is a column of the table, not a common setting.
_NOT_SETTINGS = ("recipe", "model", "seed", "tensorflow")
_MAKERS = ("command", "commit", "machine", "tensorflow", "keras", "python")


def main(arguments):
    if arguments[1:]:
        sys.exit(f"Only flags are taken. Received: {' '.join(arguments[1:])}")
    page = Path(flags.FLAGS.page)
    roots = [Path(root).expanduser() for root in flags.FLAGS.runs]
    try:
        found = find_runs(roots)
    except common.SettingError as error:
        sys.exit(error.as_flag())
    write_page(page, found)
    finished = sum(run.result is not None for run in found)
    print(f"{page} has {finished} finished runs of {len(found)}.")


def write_page(page, found, figures=FIGURES, papers=PAPERS):
    """Writes the page and the pictures that it shows.

    Args:
        page: `Path` of the markdown file.
        found: list of `found_runs.FoundRun`.
        figures: list of `published_results.Figure`.
        papers: {recipe: `published_results.Paper`}, in the order of the sections.
    """
    page.parent.mkdir(parents=True, exist_ok=True)
    for picture in (page.parent / PICTURES).glob("*.png"):
        picture.unlink()
    real = [run for run in found if not any(run.config.get(key) for key in SYNTHETIC)]
    recipes = [*papers, *sorted({run.recipe for run in real} - papers.keys())]
    parts = [INTRODUCTION]
    for recipe in recipes:
        own = [figure for figure in figures if figure.recipe == recipe]
        runs = [run for run in real if run.recipe == recipe]
        parts += _section(recipe, papers.get(recipe), runs, own, page.parent)
    folders.write_whole(page, "\n".join(parts))


# ---- Sections


def _section(recipe, paper, runs, figures, folder):
    """The parts of the page on one recipe."""
    parts = [f"## {paper.title if paper else recipe}\n", f"Recipe: `{recipe}`.\n"]
    if paper:
        parts[-1] = f"Recipe: `{recipe}`. The paper: {paper.schedule}.\n"
    workdirs = {}
    for run in runs:
        workdirs.setdefault(run.path.parent, []).append(run)
    shown = set()
    for number, (workdir, own) in enumerate(workdirs.items(), start=1):
        finished = [run for run in own if run.result is not None]
        parts.append(f"### `{workdir.name}`\n")
        if finished:
            parts += _table(finished, figures, shown)
            parts += _pictures(workdir, f"{recipe}_{number}", folder)
        waiting = [f"{r.path.name} (step {r.step:,})" for r in own if r.result is None]
        if waiting:
            parts.append(f"Not finished: {', '.join(waiting)}.\n")
    missing = [figure for figure in figures if figure not in shown]
    if not runs:
        parts.append("No run yet.\n")
    if missing:
        columns = [
            _text("not measured", _named),
            _text("measure", lambda figure: figure.measure.replace("_", " ")),
            _text("paper", lambda figure: _published(figure, percent=True)),
            _text("source", lambda figure: figure.source),
        ]
        parts.append(results.markdown_table(columns, missing))
    return parts


def _table(runs, figures, shown):
    """A table of the finished runs of a workdir, and what it was made by."""
    makers = list(dict.fromkeys(map(_maker, runs)))
    shared, rows = _common_settings(runs), {}
    for run in runs:
        # Runs of other settings are no seeds of one method, whatever it is called.
        key = run.method, run.result["step"], json.dumps(_settings(run), sort_keys=True)
        rows.setdefault(key, []).append(run)
    rows = [sorted(row, key=lambda run: run.config["seed"]) for row in rows.values()]
    used = {}
    columns = [
        _text("method", lambda row: f"`{row[0].method}`"),
        _text("seeds", lambda row: ", ".join(str(run.config["seed"]) for run in row)),
    ]
    for measure in runs[0].result["measures"]:
        columns += _measure_columns(measure, rows, figures, used)
    own = {id(row): _own_settings(row[0], runs, shared) for row in rows}
    if any(own.values()):
        columns.append(_text("other settings", lambda row: _listed(own[id(row)])))
    columns.append(_text("steps", lambda row: f"{row[0].result['step']:,}"))
    sizes = dict.fromkeys(name for run in runs for name in run.result["sizes"])
    columns += [_size_column(name) for name in sizes]
    columns += [
        _text("examples/s", _speed),
        _text("hours", _hours),
        _text("made by", lambda row: _numbers(makers, row)),
    ]
    shown.update(used)
    parts = [results.markdown_table(columns, rows)]
    sources = sorted({figure.source for figure in used})
    if sources:
        parts.append(f"The paper's figures: {'; '.join(sources)}.\n")
    parts.append("Made by:\n")
    parts += [f"{i}. {_made_by(maker)}" for i, maker in enumerate(makers, start=1)]
    return [*parts, f"\nCommon settings: {_listed(shared)}.\n"]


def _measure_columns(measure, rows, figures, used):
    """Ours, and where any row has one the paper's."""
    name, percent = measure["name"], measure["percent"]

    def ours(row):
        values = [run.result["metrics"].get(name) for run in row]
        mean, error = (None, None) if None in values else mean_and_error(values)
        if percent or mean is None:
            return results.percent(mean, error)
        return f"{mean:.4g} ± {NOT_KNOWN if error is None else f'{error:.2g}'}"

    def papers(row):
        return [
            figure
            for figure in figures
            if figure.measure == name and _is_of(figure, row[0].config)
        ]

    title = f"{measure['title']} %" if percent else measure["title"]
    columns = [_text(title, ours)]
    for row in rows:
        used.update(dict.fromkeys(papers(row)))
    if any(map(papers, rows)):
        columns.append(
            _text(
                f"*paper's {measure['title']}*",
                lambda row: ", ".join(_published(one, percent) for one in papers(row)),
            )
        )
    return columns


def _is_of(figure, config):
    """Whether a run has the model and the settings of a published figure."""
    same = all(config.get(k) == value for k, value in figure.settings.items())
    return figure.model == config["model"] and same


def _pictures(workdir, prefix, folder):
    """Copies what was plotted of a workdir; returns the lines that show it."""
    files = [*sorted(workdir.glob("*.png")), *sorted(workdir.glob(f"{ANALYSES}/*.png"))]
    if not files:
        return []
    (folder / PICTURES).mkdir(exist_ok=True)
    lines = []
    for file in files:
        target = folder / PICTURES / f"{prefix}_{file.name}"
        shutil.copyfile(file, target)
        title = file.stem.replace("_", " ")
        lines.append(f"![{title}]({PICTURES}/{target.name})")
    return ["\n".join(lines) + "\n"]


# ---- Cells


def _text(title, text):
    return Column(title, text, {})


def _size_column(name):
    def text(row):
        size = row[0].result["sizes"].get(name)
        return NOT_KNOWN if size is None else f"{size:,}"

    return _text(name.replace("_", " "), text)


def _speed(row):
    speed = row[0].result["examples_per_second"]
    return NOT_KNOWN if speed is None else f"{speed:,.0f}"


def _hours(row):
    """Of training one run, evaluations left out."""
    speed = row[0].result["examples_per_second"]
    examples = row[0].result["step"] * row[0].config["batch_size"]
    return NOT_KNOWN if speed is None else f"{examples / speed / 3600:.2g}"


def _published(figure, percent):
    return f"*{100 * figure.value:.2f}*" if percent else f"*{figure.value:.4g}*"


def _named(figure):
    own = {k: v for k, v in figure.settings.items() if v is not None}
    return " ".join([f"`{figure.model}`", *(f"{k}={v}" for k, v in own.items())])


def _maker(run):
    return tuple(run.result.get(key) or "not recorded" for key in _MAKERS)


def _made_by(maker):
    command, commit, machine, tensorflow, keras, python = maker
    return (
        f"`{command}`, commit {commit}, {machine}, TensorFlow {tensorflow}, "
        f"Keras {keras}, Python {python}"
    )


def _numbers(makers, row):
    return ", ".join(str(n) for n in sorted({makers.index(_maker(r)) + 1 for r in row}))


def _settings(run):
    """{setting: value} of a run, without what says which one it is."""
    return {k: v for k, v in run.config.items() if k not in _NOT_SETTINGS}


def _common_settings(runs):
    """The settings that all runs of a workdir share."""
    first, *others = map(_settings, runs)
    return {
        name: value
        for name, value in first.items()
        if all(one.get(name) == value for one in others)
    }


def _own_settings(run, runs, shared):
    """The settings that are not common to all and that a sweep does not name.

    What one command sweeps is in the method's name, or of no effect on the method.
    """
    command = run.result.get("command")
    swept = {
        name
        for other in runs
        if other.result.get("command") == command
        for name in other.result["changes"]
    }
    hidden = shared.keys() | swept
    return {k: v for k, v in _settings(run).items() if k not in hidden}


def _listed(settings):
    return ", ".join(f"{name} {_plain(name, v)}" for name, v in settings.items())


def _plain(name, value):
    if name in common.PLACES:
        return Path(value).name  # the rest is of the machine
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)


if __name__ == "__main__":
    flags.DEFINE_list("runs", [common.DEFAULT_FOLDER], "Folders to look for runs in.")
    flags.DEFINE_string("page", "docs/results.md", "Markdown file to write.")
    app.run(main)
