"""From one model to several heads on a shared trunk (EnsembleNet, section 3)."""

import tensorflow as tf

from ensemble_heads import auto_width, graph, weight_transfer, widths
from ensemble_heads.cloning import Copy, new_seed
from ensemble_heads.forking import fork, take_off_activations
from ensemble_heads.multi_head_model import MultiHeadModel
from ensemble_heads.multi_head_wrapper import MultiHeadWrapper, check_num_heads
from ensemble_heads.tracing import trace


def multi_head(
    model,
    fork_at,
    num_heads=2,
    width_multiplier=1.0,
    overrides=None,
    ensembler="mean",
    divisor=None,
    seed=None,
    copy_weights=False,
    name=None,
):
    """Turns a model into one with several heads that share its lower part.

    The layers up to `fork_at` stay as the trunk. What comes after is cloned
    `num_heads` times, every width scaled by `width_multiplier`; what is tied to the
    trunk (a residual stream that comes out of it) or to the model's output (the
    classifier) keeps its size. Heads differ only by their initialisation.

    ```python
    >>> import ensemble_heads as eh
    >>> keras = eh.keras_api.keras
    >>> inputs = keras.Input((8,))
    >>> shared = keras.layers.Dense(16, activation="relu", name="shared")(inputs)
    >>> hidden = keras.layers.Dense(32, activation="relu", name="hidden")(shared)
    >>> outputs = keras.layers.Dense(3, activation="softmax")(hidden)
    >>> single = keras.Model(inputs, outputs)
    >>> model = eh.multi_head(single, fork_at="shared", width_multiplier=0.5)
    >>> [head.get_layer("hidden").units for head in model.heads]
    [16, 16]

    ```

    Args:
        model: functional `keras.Model` or built Sequential; it is never changed.
        fork_at: a layer, or its name; in zoo models also a stage (`"stage2"`).
        num_heads: int >= 1, symbol N.
        width_multiplier: float in (0, 4]; a callable `layer -> float`, where a layer
            for which it gives exactly 1.0 keeps its widths, and with it all that is
            tied to it; or `"auto"`, the largest up to 1 for which neither the
            parameters nor the FLOPs (batch norm folded, as `eh.profile` counts them)
            exceed those of `model`. The result's `width_multiplier` tells it.
        overrides: {layer name: {config key: value}}: changes of single layers, of
            widths (what is tied to them follows) or anything else.
        ensembler: `"mean"` or a layer, see `eh.ensemblers`.
        divisor: int >= 1, widths are rounded to its multiples. Default: 8 for
            `"auto"`, 1 otherwise.
        seed: int; the same seed gives the same model. Default: drawn from Python's
            generator (`keras.utils.set_random_seed`).
        copy_weights: bool, start from the weights of `model`: exactly its own at a
            multiplier of 1; narrower heads keep the channels of largest norm, the
            same ones in every tied layer.
        name: str, name of the new model. Default: `<name of model>_heads`.

    Returns:
        An `eh.MultiHeadModel`, not compiled.

    Raises:
        ValueError: a model without a graph, an unknown layer, a fork that cuts a skip
            connection in two, a layer whose widths cannot be traced (the message says
            what to pass instead), or an argument out of its range.

    References:
        EnsembleNet, section 3; Lee et al. 2015, arXiv:1511.06314.
    """
    options = _Options(
        num_heads, width_multiplier, overrides, divisor, seed, copy_weights
    )
    whole = graph.read(model)
    cut = fork(whole, fork_at)
    trunk = Copy(cut.trunk, "trunk", options.seed)
    trunk.redraw_composites()
    if copy_weights:
        weight_transfer.copy_all(cut.trunk, trunk)

    def assemble(multiplier):
        heads, links = options.clone(cut.upper, multiplier)
        wrapper = MultiHeadWrapper.from_heads(heads, links, name="heads")
        result = MultiHeadModel(
            trunk.model, wrapper, ensembler, name=name or f"{model.name}_heads"
        )
        result.width_multiplier = multiplier
        return result

    if options.multiplier == "auto":
        return auto_width.largest_within_budget(model, cut.upper, options, assemble)
    return assemble(options.multiplier)


def clone_heads(
    upper,
    num_heads,
    width_multiplier=1.0,
    overrides=None,
    divisor=None,
    seed=None,
    copy_weights=False,
):
    """Clones an upper network into heads without their final activations.

    Args:
        upper: functional `keras.Model`, features -> predictions; never changed.
        num_heads, width_multiplier, overrides, divisor, seed, copy_weights: as for
            `multi_head`; `width_multiplier` is a float or a callable.

    Returns:
        (list of functional `keras.Model`, features -> raw outputs; structure of the
        outputs of `"softmax"`, `"sigmoid"` or `"linear"`, what was taken off).

    Raises:
        ValueError: as for `multi_head`.
    """
    options = _Options(
        num_heads, width_multiplier, overrides, divisor, seed, copy_weights
    )
    if options.multiplier == "auto":
        raise ValueError(
            '`width_multiplier` must be a float or a callable here: "auto" compares '
            "with a whole model, see `eh.multi_head`. "
            "Received: width_multiplier='auto'"
        )
    return options.clone(graph.read(upper), options.multiplier)


class _Options:
    """What was asked for, checked; clones graphs accordingly."""

    def __init__(self, num_heads, multiplier, overrides, divisor, seed, copy_weights):
        check_num_heads(num_heads)
        if multiplier != "auto" and not callable(multiplier):
            widths.check_multiplier(multiplier)
        if divisor is None:
            divisor = 8 if multiplier == "auto" else 1
        widths.check_divisor(divisor)
        self.num_heads, self.multiplier = num_heads, multiplier
        self.overrides, self.divisor = overrides, divisor
        self.seed = new_seed() if seed is None else seed
        self.copy_weights = copy_weights

    def plan(self, upper, multiplier):
        """Sizes for one multiplier: (trace, widths' sizes, configuration entries)."""
        table, forced, entries, traced = self.trace(upper, multiplier)
        return traced, table.sizes(multiplier, self.divisor, forced), entries

    def trace(self, upper, multiplier):
        """(table of widths, forced sizes, other changes, trace) of a graph.

        At a multiplier of 1 without overrides nothing has to be traced, so that any
        layer is welcome.
        """
        if multiplier == 1 and not self.overrides:
            return widths.WidthTable({}), {}, {}, None
        traced = trace(upper, widths.kept_layers(upper, multiplier))
        forced, entries = widths.split_overrides(upper, traced, self.overrides)
        return widths.width_table(upper, traced), forced, entries, traced

    def clone(self, upper, multiplier):
        """(heads, links) of a graph for one multiplier."""
        raw, links, activations = take_off_activations(upper)
        traced, sizes, entries = self.plan(raw, multiplier)
        for layer_id, changes in activations.items():
            entries[layer_id] = {**entries.get(layer_id, {}), **changes}
        heads = []
        for number in range(self.num_heads):
            copy = Copy(raw, f"head_{number}", self.seed, traced, sizes, entries)
            copy.redraw_composites()
            if self.copy_weights:
                weight_transfer.copy_kept(raw, copy, traced, sizes)
            heads.append(copy.model)
        return heads, tf.nest.pack_sequence_as(upper.outputs, links)
