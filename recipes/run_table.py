"""The table and the plots of finished long runs."""

import numbers

from recipes import plots, results
from recipes.results import Column, mean_and_error

TABLE_CSV = "table.csv"
TABLE_MARKDOWN = "table.md"
LEARNING_CURVES = "learning_curves.png"
WEIGHT_PLOT = "{measure}_by_{setting}.png"


def write_report(experiment, finished, path, console):
    """Writes table and plots to a folder and prints the table.

    Args:
        experiment: `Experiment`.
        finished: list of (`Run`, `RunFolder`) that have results.
        path: `Path` of the folder.
        console: `rich.console.Console`.
    """
    methods = {}
    for run, folder in finished:
        methods.setdefault(run.method, []).append(folder.result())
    rows = list(methods.items())
    name, measured, sizes = _columns(experiment, finished)
    columns = [name, *measured, *sizes]
    results.write_csv(path / TABLE_CSV, columns, rows)
    markdown = results.markdown_table(columns, rows)
    (path / TABLE_MARKDOWN).write_text(markdown, encoding="utf-8")
    _plot(experiment, finished, path)
    # Two tables, each as narrow as a terminal.
    for part in (measured, sizes):
        console.print()
        table = results.rich_table([name, *part], rows, title=experiment.title)
        console.print(table)
    notes = f"mean ± standard error of the mean over the seeds{experiment.notes}"
    console.print(notes, soft_wrap=True)


def _columns(experiment, finished):
    """The method's column, those of what was measured, those of sizes and speed."""
    name = Column("method", lambda row: row[0], {"method": lambda row: row[0]})
    seeds = {"seeds": lambda row: len(row[1])}
    measured = [Column("seeds", lambda row: str(len(row[1])), seeds)]
    measured += [_measure_column(measure) for measure in experiment.measures]
    found = [folder.result() for _, folder in finished]
    known = dict.fromkeys(name for one in found for name in one["sizes"])
    sizes = [_size_column(size) for size in known]
    speed = {"examples_per_second": lambda row: row[1][0]["examples_per_second"]}
    sizes.append(Column("examples/s", _speed, speed))
    return name, measured, sizes


def _measure_column(measure):
    def pair(row):
        values = [one["metrics"].get(measure.name) for one in row[1]]
        # A single network has no measure of heads.
        return (None, None) if None in values else mean_and_error(values)

    def text(row):
        mean, error = pair(row)
        if measure.percent or mean is None:
            return results.percent(mean, error)
        return f"{mean:.4g} ± {results.NOT_KNOWN if error is None else f'{error:.2g}'}"

    title = f"{measure.title} %" if measure.percent else measure.title
    values = {
        measure.name: lambda row: pair(row)[0],
        f"{measure.name}_standard_error": lambda row: pair(row)[1],
    }
    return Column(title, text, values)


def _size_column(name):
    def value(row):
        return row[1][0]["sizes"].get(name)

    def text(row):
        size = value(row)
        if size is None:
            return results.NOT_KNOWN
        return f"{size:,}" if size < 1e6 else f"{size / 1e6:,.3f} M"

    return Column(name.replace("_", " "), text, {name: value})


def _speed(row):
    speed = row[1][0]["examples_per_second"]
    return results.NOT_KNOWN if speed is None else f"{speed:,.0f}"


def _plot(experiment, finished, path):
    measure = experiment.measures[0]
    keys = {"train_loss": "training loss"}
    keys[f"evaluation_{measure.name}"] = measure.title
    panels = {title: _curves(finished, key) for key, title in keys.items()}
    plots.logged_curves(path / LEARNING_CURVES, panels, experiment.title)
    baselines = {}
    for run, folder in finished:
        if not run.changes:
            found = folder.result()["metrics"][measure.name]
            baselines.setdefault(run.model, []).append(found)
    for setting, points in _by_setting(finished, measure.name).items():
        name = WEIGHT_PLOT.format(measure=measure.name, setting=setting)
        label = experiment.symbols.get(setting, setting.replace("_", " "))
        panels = {f"{label} of {model}": found for model, found in points.items()}
        plots.accuracy_by_weight(
            path / name, panels, baselines, experiment.title, measure=measure.title
        )


def _curves(finished, key):
    """{method: list of (steps, values), one per seed}."""
    curves = {}
    for run, folder in finished:
        points = [(r["step"], r[key]) for r in folder.log if key in r]
        if points:
            curves.setdefault(run.method, []).append(tuple(zip(*points)))
    return curves


def _by_setting(finished, measure):
    """{setting swept alone over numbers: {model: {value: list of results}}}."""
    found = {}
    for run, folder in finished:
        if len(run.changes) != 1:
            continue
        ((setting, value),) = run.changes.items()
        if isinstance(value, numbers.Real):
            models = found.setdefault(setting, {})
            points = models.setdefault(run.model, {}).setdefault(value, [])
            points.append(folder.result()["metrics"][measure])
    return found
