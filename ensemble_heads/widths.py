"""From a multiplier to the new size of every width of a traced graph."""

import collections
import dataclasses
import difflib
import math
import numbers

from ensemble_heads import axes as ax

LARGEST_MULTIPLIER = 4.0


def check_multiplier(value):
    """Checks a width multiplier that is a number.

    Raises:
        ValueError: it is not in (0, 4].
    """
    valid = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not valid or not 0 < value <= LARGEST_MULTIPLIER:
        raise ValueError(
            f"`width_multiplier` must be in (0, {LARGEST_MULTIPLIER:g}], a callable "
            f'layer -> float, or "auto". Received: width_multiplier={value!r}'
        )


def check_divisor(value):
    """Checks a divisor: a positive integer.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(
            f"`divisor` must be an integer of at least 1. Received: divisor={value!r}"
        )


def check_overrides(overrides):
    """Checks the form of overrides: {layer name: {config key: value}}.

    Raises:
        ValueError: they have another form.
    """
    is_dict = isinstance(overrides, dict)
    if not is_dict or not all(isinstance(one, dict) for one in overrides.values()):
        raise ValueError(
            "`overrides` must be a dict {layer name: {config key: value}}. "
            f"Received: overrides={overrides!r}"
        )


def scaled(width, multiplier, divisor):
    """New size of one width: the nearest multiple of `divisor`, half rounded up.

    At a multiplier of 1 it is the original size exactly; below, never more than it.

    >>> scaled(ax.Width(256, "conv"), 0.6875, divisor=1)
    176
    """
    if multiplier == 1:
        return width.base
    step = divisor // math.gcd(divisor, width.unit)
    size = max(step * math.floor(width.base * multiplier / step + 0.5), step)
    return min(size, width.base) if multiplier < 1 else max(size, width.base)


def breakpoints(width, divisor):
    """Multipliers up to 1 from which on `scaled` gives its next larger size."""
    step = divisor // math.gcd(divisor, width.unit)
    return [(k - 0.5) * step / width.base for k in range(1, width.base // step + 2)]


@dataclasses.dataclass(frozen=True, eq=False)
class WidthTable:
    """The free widths of a traced graph, and the layers each belongs to.

    Attributes:
        owners: {Width: list of the original layers that it is a width of}.
    """

    owners: dict

    def sizes(self, multiplier, divisor, forced):
        """New sizes for one multiplier.

        Args:
            multiplier: float in (0, 4], or callable `layer -> float`.
            divisor: int, what sizes are rounded to a multiple of.
            forced: {Width: int}, sizes given by overrides.

        Returns:
            {Width: int}.
        """
        table = {}
        for width, layers in self.owners.items():
            if width in forced:
                table[width] = forced[width]
            else:
                factor = _multiplier_of(layers, multiplier)
                table[width] = scaled(width, factor, divisor)
        return table


def width_table(graph, trace):
    """Collects the free widths of a trace, each with the layers that it belongs to."""
    layers = {id(node.layer): node.layer for node in graph.nodes}
    owners = collections.defaultdict(list)
    for (layer_id, _), width in trace.widths.items():
        for root in ax.variable(width).widths():
            owners[root].append(layers[layer_id])
    return WidthTable(dict(owners))


def kept_layers(graph, multiplier):
    """Ids of the layers for which a callable multiplier is exactly 1."""
    if not callable(multiplier):
        return ()
    return {
        id(node.layer)
        for node in graph.nodes
        if _checked(multiplier, node.layer) == 1.0
    }


def split_overrides(graph, trace, overrides):
    """Sorts overrides into sizes of widths and other configuration entries.

    Args:
        overrides: {layer name: {config key: value}}.

    Returns:
        ({Width: int}, {id of layer: {config key: value}}).

    Raises:
        ValueError: an unknown layer, or a width that is tied to a fixed size or to a
            width that another override gives another size.
    """
    named = {node.name: node.layer for node in graph.nodes}
    forced_by, entries = {}, collections.defaultdict(dict)
    for name, changes in (overrides or {}).items():
        if name not in named:
            raise ValueError(unknown_name("overrides", name, named, "behind the fork"))
        layer = named[name]
        traced = trace.config.get(id(layer), {})
        for key, value in changes.items():
            axis = traced.get((key,))
            if isinstance(axis, ax.Axis):
                _force(forced_by, name, key, axis.resolve(), value)
            elif key in layer.get_config():
                entries[id(layer)][key] = value
            else:
                raise ValueError(
                    f"`overrides` names a configuration entry that layer `{name}` "
                    f"does not have; it has {sorted(layer.get_config())}. "
                    f"Received: overrides[{name!r}]={changes!r}"
                )
    forced = {width: size for width, (size, _) in forced_by.items()}
    return forced, dict(entries)


def unknown_name(argument, name, known, where="of the model"):
    """The message for a layer name that does not exist, with the closest ones."""
    close = difflib.get_close_matches(str(name), map(str, known), n=5, cutoff=0.3)
    hint = ", ".join(f"`{c}`" for c in close) or "none is similar"
    return (
        f"`{argument}` must name layers {where}. The closest names: {hint}. "
        f"Received: {argument}={name!r}"
    )


def _checked(multiplier, layer):
    value = multiplier(layer)
    try:
        check_multiplier(value)
    except ValueError as error:
        raise ValueError(
            f"`width_multiplier` of layer `{layer.name}`: {error}"
        ) from error
    return value


def _multiplier_of(layers, multiplier):
    """The multiplier that all layers of a tied width agree on."""
    if not callable(multiplier):
        return multiplier
    given = {layer.name: _checked(multiplier, layer) for layer in layers}
    if len(set(given.values())) > 1:
        raise ValueError(
            "`width_multiplier` must return the same for layers whose widths are "
            f"tied, by a residual addition for instance. Received: {given}"
        )
    return next(iter(given.values()))


def _force(forced_by, name, key, axis, value):
    """Solves `axis == value` for the one width in it."""
    roots = axis.widths()
    if not roots and axis.size() == value:
        return
    if len(roots) != 1:
        reason = (
            "is tied to the trunk, the model's output or another fixed size"
            if not roots
            else f"is made of several widths, those of {[r.owner for r in roots]}"
        )
        raise ValueError(
            f"`overrides` cannot set `{key}` of layer `{name}`: it {reason}, and "
            f"stays {axis.size()}. Received: overrides[{name!r}][{key!r}]={value!r}"
        )
    (root,) = roots
    per_step = axis.size({root: 1})
    if not isinstance(value, int) or value < 1 or value % per_step:
        raise ValueError(
            f"`overrides` must set `{key}` of layer `{name}` to a positive multiple "
            f"of {per_step}. Received: overrides[{name!r}][{key!r}]={value!r}"
        )
    first, other = forced_by.setdefault(root, (value // per_step, name))
    if first != value // per_step:
        raise ValueError(
            f"`overrides` gives two sizes to widths that are tied, those of "
            f"`{other}` and `{name}`. "
            f"Received: overrides[{name!r}][{key!r}]={value!r}"
        )
