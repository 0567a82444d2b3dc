"""Times steps in pairs, so that whatever else the machine does meets both alike."""

import gc
import statistics
import time

from rich.progress import track

CLOCKS = {"seconds": time.perf_counter, "cpu_seconds": time.process_time}


def timed(step):
    """{one of `CLOCKS`: seconds that a call takes}."""
    begin = {clock: read() for clock, read in CLOCKS.items()}
    step()
    return {clock: read() - begin[clock] for clock, read in CLOCKS.items()}


def measure(steps, first, label, rounds, warm_up, timed=timed):
    """Times single steps, each right beside one that all are compared with.

    Args:
        steps: {name: callable}.
        first: the name of the one that the others are compared with.
        label: str, for the progress bar.
        rounds, warm_up: int, rounds that count and rounds before them.
        timed: callable, step -> {one of `CLOCKS`: seconds}. Default: those that a call
            takes in this process.

    Returns:
        {name of another: {one of `CLOCKS`: list of (its seconds, those of the first),
        one pair per round that counts}}.
    """
    names = [name for name in steps if name != first]
    pairs = {name: {clock: [] for clock in CLOCKS} for name in names}
    gc.collect()
    gc.disable()  # it would strike one of them
    try:
        for number in track(range(-warm_up, rounds), label, transient=True):
            for name in names:
                order = (name, first) if number % 2 else (first, name)
                took = {one: timed(steps[one]) for one in order}
                for clock in CLOCKS if number >= 0 else ():
                    pairs[name][clock].append((took[name][clock], took[first][clock]))
    finally:
        gc.enable()
    return pairs


def medians(pairs, name, clock):
    """(median of the seconds, median of the ratios within pairs) of a step.

    Args:
        pairs: what `measure` returns.
        name: str; of the first step, all its seconds beside any other count.
        clock: one of `CLOCKS`.
    """
    if name in pairs:
        own = pairs[name][clock]
    else:
        own = [(first, first) for some in pairs.values() for _, first in some[clock]]
    seconds = statistics.median(took for took, _ in own)
    return seconds, statistics.median(took / first for took, first in own)
