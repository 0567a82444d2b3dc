"""What tests of narrower heads share: single models in which half is dead."""

import numpy as np

from ensemble_heads import forking, graph, tracing, widths


def kill_half_of_the_channels(single, fork_at):
    """Draws weights above a fork that are zero wherever dropped channels occur.

    Half of the channels of every width are dropped. Half-wide heads that start from
    such weights then compute the same function.
    """
    upper = forking.fork(graph.read(single), fork_at).upper
    traced = tracing.trace(upper)
    table = widths.width_table(upper, traced)
    sizes = table.sizes(0.5, 1, {})
    assert sizes, "nothing to narrow: the case proves nothing"
    rng = np.random.default_rng(0)
    kept = {
        w: np.sort(rng.choice(w.base, size, replace=False)) for w, size in sizes.items()
    }
    for layer in {id(n.layer): n.layer for n in upper.nodes}.values():
        if not getattr(layer, "weights", None):
            continue
        values = []
        for old, axes in zip(
            layer.get_weights(), traced.weights[id(layer)], strict=True
        ):
            assert old.shape == tuple(axis.size() for axis in axes)
            place = np.ix_(*(axis.indices(kept) for axis in axes))
            new = np.zeros_like(old)
            new[place] = rng.uniform(0.2, 1.0, old.shape)[place]
            values.append(new)
        layer.set_weights(values)
