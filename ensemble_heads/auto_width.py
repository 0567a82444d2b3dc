"""The largest width multiplier for which a multi-headed model costs no more."""

import math

from absl import logging

from ensemble_heads import profiling, widths


def largest_within_budget(model, cut, cloner, assemble):
    """Builds the widest multi-headed model within the budget of a single model.

    Costs are first estimated from the single model's profile, layer by layer; then
    models are built and profiled until one fits and the next wider one does not.

    Args:
        model: the single `keras.Model`.
        cut: `Fork`, where it is cut.
        cloner: `HeadCloner`, the checked arguments of `multi_head`.
        assemble: callable `multiplier -> MultiHeadModel`.

    Returns:
        The `MultiHeadModel`.

    Raises:
        ValueError: not even the narrowest heads fit.
    """
    budget = profiling.profile(model)
    _check_countable(budget, cut)
    search = _Search(cut.upper, cloner, budget)
    steps = search.steps
    place = search.guess()
    fitting, too_wide = None, len(steps)
    while 0 <= place < too_wide:
        candidate = assemble(steps[place])
        cost = profiling.profile(candidate)
        if cost.parameters <= budget.parameters and cost.flops <= budget.flops:
            fitting, fitting_cost, fitting_place = candidate, cost, place
            place += 1
        else:
            too_wide = place
            place = place - 1 if fitting is None else len(steps)
        if fitting is not None and fitting_place == too_wide - 1:
            break
    if fitting is None:
        raise ValueError(
            '`width_multiplier="auto"` must find heads that fit: even the narrowest '
            f"{cloner.num_heads} heads exceed {budget.parameters:,} parameters or "
            f"{budget.flops:,} FLOPs. Fork elsewhere (earlier, if little but the "
            "classifier is left to narrow), or pass a smaller `divisor`. "
            f"Received: num_heads={cloner.num_heads}, divisor={cloner.divisor}"
        )
    logging.info(
        "width_multiplier=%g: %s parameters of %s, %s FLOPs of %s",
        fitting.width_multiplier,
        f"{fitting_cost.parameters:,}",
        f"{budget.parameters:,}",
        f"{fitting_cost.flops:,}",
        f"{budget.flops:,}",
    )
    return fitting


def _check_countable(budget, cut):
    """Raises for FLOPs that cannot be compared; those of the trunk stay as they are."""
    above = {node.name for node in cut.upper.nodes}
    shared = {node.name for node in cut.trunk.nodes} - above
    unknown = [
        op
        for op in budget.uncounted
        if op.reason == "unknown dimension" and op.layer not in shared
    ]
    if unknown:
        layers = sorted({op.layer for op in unknown})
        raise ValueError(
            '`width_multiplier="auto"` must be able to count FLOPs, and those of '
            f"{layers} depend on dimensions that are not known. Build the model with "
            "a full input shape, or pass a number. "
            "Received: width_multiplier='auto'"
        )


class _Search:
    """The multipliers worth trying, and what each is estimated to cost."""

    def __init__(self, upper, cloner, budget):
        self._cloner, self._upper = cloner, upper
        self._rows = {row.name: row for row in budget.rows}
        self._times_built = cloner.times_built(upper)
        self._table, self._forced, _, self._trace = cloner.trace(upper, "auto")
        marks = {
            mark
            for width in self._table.owners
            if width not in self._forced
            for mark in widths.breakpoints(width, cloner.divisor)
        }
        marks = sorted(mark for mark in marks if 0 < mark < 1)
        # Between two marks all sizes are the same; a short number stands for all.
        ends = [*marks[1:], 1.0] if marks else []
        inner = [_short_number(a, b) for a, b in zip(marks, ends, strict=True)]
        self.steps = [*inner, 1.0]

    def guess(self):
        """Position of the largest step that is estimated to fit."""
        low, high = 0, len(self.steps) - 1
        while low < high:
            middle = (low + high + 1) // 2
            if self._fits(self.steps[middle]):
                low = middle
            else:
                high = middle - 1
        return low

    def _fits(self, multiplier):
        sizes = self._table.sizes(multiplier, self._cloner.divisor, self._forced)
        before, after = self._cost(None), self._cost(sizes)
        return all(new <= old for old, new in zip(before, after, strict=True))

    def _cost(self, sizes):
        """Estimated (parameters, FLOPs) of all heads; of the original for None."""
        parameters = flops = 0.0
        counted = set()
        for node in self._upper.nodes:
            row = self._rows.get(node.name)
            if row is None or node.name in counted:
                continue
            counted.add(node.name)
            times = 1 if sizes is None else self._times_built[node.name]
            ratios = self._ratios(node, sizes)
            parameters += times * row.parameters * ratios[0]
            flops += times * row.flops * ratios[1]
        return parameters, flops

    def _ratios(self, node, sizes):
        """How parameters and FLOPs of a layer change with the sizes."""
        weights = self._trace.weights.get(id(node.layer))
        if not weights:
            before = sum(map(self._elements, node.outputs))
            after = sum(self._elements(tensor, sizes) for tensor in node.outputs)
            return after / before, after / before
        kernels = [axes for axes in weights if len(axes) > 1] or weights
        before = sum(_count(axes) for axes in kernels)
        after = sum(_count(axes, sizes) for axes in kernels)
        return after / before, after / before

    def _elements(self, tensor, sizes=None):
        return _count(self._trace.axes[tensor], sizes) or 1


def _count(axes, sizes=None):
    known = [axis.size(sizes) for axis in axes]
    return math.prod(size for size in known if size is not None)


def _short_number(low, high):
    """The number of fewest decimals in [low, high), the largest of these."""
    for decimals in range(1, 12):
        scale = 10**decimals
        number = (math.ceil(high * scale) - 1) / scale
        if low <= number < high:
            return number
    return low
