r"""docs/results.md out of the files of runs: ours and the papers', none by hand.

    python recipes/results_page.py                         # from what is kept
    python recipes/results_page.py --runs=runs,more_runs   # keep these as well

Looks in the folders, at any depth, for finished runs of the long-run recipes, and
keeps what the page needs of them below docs/results (`recipes/kept_results.py`); runs
on synthetic data are left out. The page is written from all that is kept there. A table
for each workdir has a row per method (and settings, where these differ): mean and
standard error over the seeds, what the paper has (`recipes/published_results.py`),
steps and sizes; below it commands, commits, machines and versions, the settings, and
the plots that `report` and `analyse` have drawn. Published figures of which there is no
run are listed as such. The same files give the same page.
"""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags

from recipes import common, folders, kept_results, results
from recipes.found_runs import find_runs
from recipes.published_results import FIGURES, PAPERS
from recipes.results import NOT_KNOWN, Column, mean_and_error

INTRODUCTION = """\
# Results

Written by `python recipes/results_page.py` from the runs kept in docs/results; changes
by hand are lost. Means ± standard errors of the mean over the seeds. Beside them the
figures of the papers, in italics and with their source below the table; where a paper
prints an error, it is 100 % minus that. "Made by" says with which command, commit and
machine.
"""
# What says which run it is, or is a column of the table, not a common setting.
_NOT_SETTINGS = ("recipe", "model", "seed", "tensorflow")
_MAKERS = ("command", "commit", "machine", "tensorflow", "keras", "python")


def main(arguments):
    if arguments[1:]:
        sys.exit(f"Only flags are taken. Received: {' '.join(arguments[1:])}")
    page = Path(flags.FLAGS.page)
    if not page.suffix:
        sys.exit(f"--page must be a file such as results.md. Received: {page}")
    roots = [Path(root).expanduser() for root in flags.FLAGS.runs]
    try:
        copied, left_out = kept_results.keep(roots, kept_beside(page))
    except common.SettingError as error:
        sys.exit(error.as_flag())
    if roots:
        print(f"Kept {len(copied)} finished runs.")
    for run in left_out:
        print(f"Left out, not finished or of synthetic data: {run.path}")
    print(f"{page} has {write_page(page)} runs.")


def kept_beside(page):
    """`Path` of the folder that a page is written from."""
    return page.with_suffix("")


def write_page(page, figures=FIGURES, papers=PAPERS):
    """Writes the page from the runs kept beside it; returns how many there are.

    Args:
        page: `Path` of the markdown file.
        figures: list of `published_results.Figure`.
        papers: {recipe: `published_results.Paper`}, in the order of the sections.
    """
    kept = kept_beside(page)
    kept.mkdir(parents=True, exist_ok=True)
    found = find_runs([kept])
    recipes = [*papers, *sorted({run.recipe for run in found} - papers.keys())]
    parts = [INTRODUCTION]
    for recipe in recipes:
        own = [figure for figure in figures if figure.recipe == recipe]
        runs = [run for run in found if run.recipe == recipe]
        parts += _section(recipe, papers.get(recipe), runs, own, page.parent)
    folders.write_whole(page, "\n".join(parts))
    return len(found)


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
    for workdir, own in workdirs.items():
        parts.append(f"### `{workdir.name}`\n")
        parts += _table(own, figures, shown)
        parts += _pictures(workdir, folder)
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
    """A table of the runs of a workdir, and what it was made by."""
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


def _pictures(workdir, folder):
    """The lines that show what was plotted of a workdir."""
    files = sorted(workdir.glob("*.png"))
    lines = [
        f"![{file.stem.replace('_', ' ')}]({file.relative_to(folder).as_posix()})"
        for file in files
    ]
    return ["\n".join(lines) + "\n"] if lines else []


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
    return ", ".join(f"{name} {_plain(v)}" for name, v in settings.items())


def _plain(value):
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)


if __name__ == "__main__":
    flags.DEFINE_list("runs", [], "Folders to look for runs in, to keep them.")
    flags.DEFINE_string(
        "page",
        "docs/results.md",
        "Markdown file to write, from the runs kept in the folder of its name.",
    )
    app.run(main)
