"""Means with their errors, and tables of them as text, CSV and markdown."""

import csv
import dataclasses
import math
from collections.abc import Callable

from rich import box
from rich.table import Table

NOT_KNOWN = "n/a"


def mean_and_error(values):
    """The sample mean and its standard error.

    Args:
        values: list of float, x_1 to x_N.

    Returns:
        (mean, sqrt(sum_i (x_i - mean)^2 / (N (N - 1)))); the error is None for a
        single value.

    References:
        EnsembleNet, section 4.
    """
    count = len(values)
    mean = math.fsum(values) / count
    if count < 2:
        return mean, None
    squares = math.fsum((value - mean) ** 2 for value in values)
    return mean, math.sqrt(squares / (count * (count - 1)))


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        title: str, for people.
        text: callable `row -> str`, what people read.
        values: {name: callable `row -> value`}, the columns of the CSV file.
    """

    title: str
    text: Callable
    values: dict


def percent(mean, error, signed=False):
    """'97.53 ± 0.21' of two fractions; either may be None."""
    if mean is None:
        return NOT_KNOWN
    sign = "+" if signed else ""
    width = NOT_KNOWN if error is None else f"{100 * error:.2f}"
    return f"{100 * mean:{sign}.2f} ± {width}"


def rich_table(columns, rows, title=None):
    """A `rich.table.Table`, narrow enough for a console of 80 characters."""
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE, show_edge=False, padding=0
    )
    for index, column in enumerate(columns):
        side = "right" if index else "left"
        # Where it is narrow, only what comes first wraps.
        table.add_column(column.title, justify=side, no_wrap=bool(index))
    for row in rows:
        table.add_row(*(column.text(row) for column in columns))
    return table


def markdown_table(columns, rows):
    """The table in markdown, ending in a newline."""
    lines = [
        [column.title for column in columns],
        ["---:" if index else "---" for index in range(len(columns))],
        *([column.text(row) for column in columns] for row in rows),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_csv(path, columns, rows):
    """Writes every column's values unrounded; None becomes an empty cell."""
    cells = {name: value for column in columns for name, value in column.values.items()}
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(cells)
        for row in rows:
            writer.writerow([value(row) for value in cells.values()])
