"""Lays heads out: separate, stacked, or whichever is measured as faster."""

import logging

from ensemble_heads.head_layouts import measuring
from ensemble_heads.head_layouts.measuring import Choice
from ensemble_heads.head_layouts.separate_heads import SeparateHeads
from ensemble_heads.head_layouts.stacked_heads import StackedHeads
from ensemble_heads.head_layouts.stacking import NotStackable

EXECUTIONS = ("separate", "stacked", "auto")
# What so many heads show holds for more of them: stacking pays the better.
_MEASURED_HEADS = 16

_log = logging.getLogger(__name__)


def check_execution(execution):
    """Checks the argument `execution`.

    Raises:
        ValueError: it is none of `EXECUTIONS`.
    """
    if execution not in EXECUTIONS:
        raise ValueError(
            f"`execution` must be one of {EXECUTIONS}. "
            f"Received: execution={execution!r}"
        )


def check_tree_execution(execution):
    """Checks the argument `execution` of a tree of heads.

    Raises:
        ValueError: it is `"stacked"`, or none of `EXECUTIONS`.
    """
    check_execution(execution)
    if execution == "stacked":
        raise ValueError(
            '`execution` must not be "stacked" for a tree of heads: its branches share '
            'layers, which run once as they are. "auto" leaves it so. '
            f"Received: execution={execution!r}"
        )


def lay_out(execution, num_heads, make_head, make_stack=None):
    """A layout of heads that are still to be made.

    Args:
        execution: one of `EXECUTIONS`.
        num_heads: int >= 1.
        make_head: callable `number -> functional keras.Model`.
        make_stack: callable `() -> StackedHeads`, where there is a faster way than to
            make all heads and stack them.

    Returns:
        A `HeadLayout`; its `choice` tells how `"auto"` was decided.

    Raises:
        ValueError: an unknown `execution`, or `"stacked"` for heads that cannot be.
    """
    check_execution(execution)
    heads, choice = [], None

    def made(count):
        heads.extend(make_head(i) for i in range(len(heads), count))
        return heads[:count]

    if execution == "auto":
        choice = _decide(made(min(num_heads, _MEASURED_HEADS)))
        _log.info("Heads run %s: %s.", choice.execution, choice.reason)
        execution = choice.execution
    if execution == "stacked" and make_stack is None:
        try:
            layout = StackedHeads.from_heads(made(num_heads), name="layout")
        except NotStackable as error:  # Heads that exist may differ after the first.
            if choice is None:
                raise
            choice = Choice("separate", str(error), {})
            layout = SeparateHeads(heads, name="layout")
    elif execution == "stacked":
        layout = make_stack()
    else:
        layout = SeparateHeads(made(num_heads), name="layout")
    layout.choice = choice
    return layout


def _decide(heads):
    """The `Choice` of these heads."""
    if len(heads) == 1:
        return Choice("separate", "there is one head", {})
    if not measuring.is_possible():
        return Choice("separate", "nothing is measured under this strategy", {})
    try:
        stacked = StackedHeads.from_heads(heads)
    except NotStackable as error:
        return Choice("separate", str(error), {})
    return measuring.choose(SeparateHeads(heads), stacked, heads[0].input)
