"""From one model to several heads on a shared trunk (EnsembleNet, section 3)."""

from ensemble_heads import auto_width, graph, tree_shapes, weight_transfer
from ensemble_heads.cloning import Copy, derived_seed
from ensemble_heads.forking import fork
from ensemble_heads.head_cloning import HeadCloner
from ensemble_heads.head_layouts import check_execution
from ensemble_heads.keras_api import seeded
from ensemble_heads.multi_head_model import MultiHeadModel
from ensemble_heads.multi_head_wrapper import MultiHeadWrapper


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
    execution="separate",
    devices=None,
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

    A list of places makes a tree (a TreeNet): what branches off at the first place
    forks again at the next. Every part of it is held and run once.

    ```python
    >>> tree = eh.multi_head(single, fork_at=["shared", "hidden"], num_heads=2)
    >>> [part.name for part in tree.wrapper.layout.parts]
    ['branch_0', 'branch_0.0', 'branch_0.1', 'branch_1', 'branch_1.0', 'branch_1.1']
    >>> tree = eh.multi_head(single, fork_at=["shared", ["hidden", None]])
    >>> [part.name for part in tree.wrapper.layout.parts]
    ['branch_0', 'branch_0.0', 'branch_0.1', 'branch_1']

    ```

    Heads can be on devices of their own, also on those of other processes.

    ```python
    >>> model = eh.multi_head(single, fork_at="shared", devices=[None, "CPU:0"])
    >>> model.devices
    (None, '/device:CPU:0')

    ```

    Args:
        model: functional `keras.Model` or built Sequential; it is never changed.
        fork_at: a layer, or its name; in zoo models also a stage (`"stage2"`). At an
            input layer nothing is shared: the heads are independent copies. For a
            tree a list with one entry per level, each one place at which all branches
            fork, or a list of one place for every branch that the level before makes,
            in order: None for a branch that does not fork again.
        num_heads: int >= 1, symbol N. Of a tree: the branches at every fork, or a list
            of one such number per level.
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
        execution: `"separate"` runs one head after the other; `"stacked"` holds the
            variables of equal heads together and runs all at once, which pays for many
            small dense heads; `"auto"` measures a training step of both ways on this
            device and takes the faster one. The numbers are the same. See
            `model.wrapper.execution`, `.execution_choice` and `model.with_execution`.
        devices: list of the name of a device for every head, as `"GPU:1"`, or None for
            where the trunk is; see `MultiHeadModel.with_devices`. Default: none.
        name: str, name of the new model. Default: `<name of model>_heads`.

    Returns:
        An `eh.MultiHeadModel`, not compiled.

    Raises:
        ValueError: a model without a graph, an unknown layer, a fork that cuts a skip
            connection in two, a tree that forks twice at one layer or is given in
            another structure than above, a layer whose widths cannot be traced (the
            message says what to pass instead), a tree or heads with a layer that cannot
            be stacked under `"stacked"`, devices that do not fit, or an argument out
            of its range.

    References:
        EnsembleNet, section 3; Lee et al. 2015, arXiv:1511.06314, section 5.
    """
    tree = tree_shapes.trunk(fork_at, num_heads)
    cloner = HeadCloner(
        tree.branches, width_multiplier, overrides, divisor, seed, copy_weights
    )
    check_execution(execution)
    cut = fork(graph.read(model), tree.fork_at)
    trunk = Copy(cut.trunk, "trunk", cloner.seed)
    if copy_weights:
        weight_transfer.copy_all(cut.trunk, trunk)

    def assemble(multiplier, execution="separate"):
        layout, links = cloner.clone(cut.upper, multiplier, execution)
        wrapper = MultiHeadWrapper.from_layout(layout, links, name="heads")
        with seeded(derived_seed(cloner.seed, "ensembler")):  # of a gate's weights
            return MultiHeadModel(
                trunk.model,
                wrapper,
                ensembler,
                width_multiplier=None if callable(multiplier) else multiplier,
                name=name or f"{model.name}_heads",
            )

    if cloner.multiplier == "auto":
        found = auto_width.largest_within_budget(model, cut, cloner, assemble)
        if execution != "separate":
            found = found.with_execution(execution)
    else:
        found = assemble(cloner.multiplier, execution)
    return found if devices is None else found.with_devices(devices)
