"""Sizes of tensor axes as expressions of width variables.

A layer's width is a `Width`: a variable with the size it has in the original model.
Every axis of every tensor is an `Axis` over such variables: of fixed size, a width,
several axes one behind the other (`Concat`) or folded into one in row-major order
(`Product`, what flattening and groups make). `tie` makes two axes equal by binding
variables, as in type inference; what is tied to a fixed axis keeps its size.

The order within an axis is part of the expression, so that the same channels can be
kept in every tensor they occur in (`Axis.indices`).
"""

import functools
import math

import numpy as np


class Width:
    """The variable size of a layer's output channels.

    Attributes:
        base: int, the size in the original model.
        owner: str, name of the layer that it belongs to, for messages.
        unit: int, how many channels of the owner one step of this variable makes
            (the number of groups, for the width of one group).
        binding: an `Axis` that it was found to be equal to, or None.
    """

    def __init__(self, base, owner, unit=1):
        self.base = base
        self.owner = owner
        self.unit = unit
        self.binding = None

    def split(self, parts):
        """Binds this width to a `Product` of a fixed size and a smaller width."""
        inner = Width(self.base // parts, self.owner, self.unit * parts)
        self.binding = product([fixed(parts), variable(inner)])

    def divide(self, sizes):
        """Binds this width to a `Concat` of smaller ones of the given base sizes."""
        parts = [variable(Width(size, self.owner, self.unit)) for size in sizes]
        self.binding = concat(parts)

    def __repr__(self):
        return f"Width({self.base} of {self.owner})"


class Axis:
    """An expression for the size and the order of one axis; immutable.

    Attributes:
        kind: `"fixed"`, `"width"`, `"concat"` or `"product"`.
        parts: the fixed size (int, or None when unknown), the `Width`, or a tuple
            of `Axis`, by kind.
    """

    __slots__ = ("kind", "parts")

    def __init__(self, kind, parts):
        self.kind = kind
        self.parts = parts

    def __eq__(self, other):
        return (
            isinstance(other, Axis)
            and self.kind == other.kind
            and self.parts == other.parts
        )

    def __hash__(self):
        return hash((self.kind, self.parts))

    def __repr__(self):
        return f"{self.kind}({self.parts})"

    def resolve(self):
        """The same axis with every bound width replaced by what it is bound to."""
        if self.kind == "fixed":
            return self
        if self.kind == "width":
            binding = self.parts.binding
            return self if binding is None else binding.resolve()
        make = concat if self.kind == "concat" else product
        return make([part.resolve() for part in self.parts])

    def widths(self):
        """List of the unbound `Width` objects in it, each once."""
        axis = self.resolve()
        if axis.kind == "fixed":
            return []
        if axis.kind == "width":
            return [axis.parts]
        return list(dict.fromkeys(w for part in axis.parts for w in part.widths()))

    def size(self, values=None):
        """Its size when widths have `values` ({Width: int}); else the original one.

        Returns:
            int, or None where a part of unknown size enters.
        """
        axis = self.resolve()
        if axis.kind == "fixed":
            return axis.parts
        if axis.kind == "width":
            return axis.parts.base if values is None else values[axis.parts]
        sizes = [part.size(values) for part in axis.parts]
        if None in sizes:
            return None
        return sum(sizes) if axis.kind == "concat" else math.prod(sizes)

    def indices(self, kept):
        """Which original positions remain when widths keep those of `kept`.

        Args:
            kept: {Width: int array of the positions it keeps}.

        Returns:
            int array `[new size]` of positions in the original axis.
        """
        axis = self.resolve()
        if axis.kind == "fixed":
            return np.arange(axis.parts)
        if axis.kind == "width":
            return np.asarray(kept[axis.parts])
        parts = [(part.indices(kept), part.size()) for part in axis.parts]
        if axis.kind == "concat":
            starts = np.cumsum([0] + [size for _, size in parts[:-1]])
            shifted = [start + i for start, (i, _) in zip(starts, parts, strict=True)]
            return np.concatenate(shifted)
        return functools.reduce(_row_major, parts, (np.zeros(1, int), 1))[0]

    def gather(self, scores, into):
        """Adds scores of this axis' positions to the widths they belong to.

        Args:
            scores: float array `[original size]`.
            into: {Width: float array `[base]`}, changed in place.
        """
        axis = self.resolve()
        if axis.kind == "width":
            into[axis.parts] += scores
        elif axis.kind == "concat":
            start = 0
            for part in axis.parts:
                part.gather(scores[start : start + part.size()], into)
                start += part.size()
        elif axis.kind == "product":
            scores = scores.reshape([part.size() for part in axis.parts])
            for position, part in enumerate(axis.parts):
                others = tuple(i for i in range(scores.ndim) if i != position)
                part.gather(scores.sum(axis=others), into)


class SliceOfAxes:
    """A slice of which both ends are axes; `slice` itself is opaque to `tf.nest`."""

    def __init__(self, start, stop, step):
        self.start, self.stop, self.step = start, stop, step

    def at(self, values):
        """The slice when widths have `values`."""
        return slice(self.start.size(values), self.stop.size(values), self.step)


def fixed(size):
    """An axis that keeps its size; `size` None where it is unknown."""
    return Axis("fixed", size)


def variable(width):
    """An axis of the size of one `Width`."""
    return Axis("width", width)


def concat(parts):
    """Axes one behind the other."""
    flat = []
    for part in parts:
        flat.extend(part.parts if part.kind == "concat" else [part])
    merged = []
    for part in flat:
        both = merged and merged[-1].kind == "fixed" and part.kind == "fixed"
        if both and None not in (part.parts, merged[-1].parts):
            merged[-1] = fixed(merged[-1].parts + part.parts)
        elif part != fixed(0):
            merged.append(part)
    if not merged:
        return fixed(0)
    return merged[0] if len(merged) == 1 else Axis("concat", tuple(merged))


def product(parts):
    """Axes folded into one in row-major order: the last one varies fastest."""
    flat = []
    for part in parts:
        flat.extend(part.parts if part.kind == "product" else [part])
    merged = []
    for part in flat:
        both = merged and merged[-1].kind == "fixed" and part.kind == "fixed"
        if both and None not in (part.parts, merged[-1].parts):
            merged[-1] = fixed(merged[-1].parts * part.parts)
        elif part != fixed(1):
            merged.append(part)
    if not merged:
        return fixed(1)
    return merged[0] if len(merged) == 1 else Axis("product", tuple(merged))


def _row_major(outer, inner):
    (outer_indices, outer_size), (inner_indices, inner_size) = outer, inner
    table = outer_indices[:, None] * inner_size + inner_indices[None, :]
    return table.reshape(-1), outer_size * inner_size
