"""Makes axes equal: unification of the expressions of `axes.py`."""

import math

from ensemble_heads import axes as ax


class TieError(ValueError):
    """Two axes cannot be made equal."""


def pin(axis):
    """Lets every width in `axis` keep its original size."""
    for width in axis.widths():
        width.binding = ax.fixed(width.base)


def tie(first, second):
    """Makes two axes equal, in size and in the order of what is in them.

    Raises:
        TieError: they differ in size, or no way was found to make them equal.
    """
    first, second = first.resolve(), second.resolve()
    if first == second:
        return
    if None in (first.size(), second.size()):
        raise TieError("an axis of unknown size is tied to a width")
    if first.size() != second.size():
        raise TieError(f"sizes {first.size()} and {second.size()} differ")
    if first.kind == "width":
        _bind(first.parts, second)
    elif second.kind == "width":
        _bind(second.parts, first)
    elif "fixed" in (first.kind, second.kind):
        pin(first)
        pin(second)
    elif first.kind == "product" and second.kind == "product":
        _tie_products(first, second)
    else:
        _tie_concats(first, second)


def split_product(axis, sizes):
    """Splits an axis into axes of the given original sizes, in row-major order.

    A width that has to be split keeps its outer part and scales its inner one: a
    channel axis read as (groups, channels of a group) keeps the number of groups.

    Returns:
        List of `Axis`, one for each of `sizes`.

    Raises:
        TieError: the axis cannot be split there.
    """
    rest, pieces = axis.resolve(), []
    for size in sizes[:-1]:
        piece, rest = _take_outer(rest, size)
        pieces.append(piece)
    if rest.size() != sizes[-1]:
        raise TieError(f"size {axis.size()} does not split into {tuple(sizes)}")
    return [*pieces, rest]


def split_concat(axis, sizes):
    """Splits an axis into consecutive pieces of the given original sizes.

    Raises:
        TieError: the axis cannot be split there.
    """
    rest, pieces = axis.resolve(), []
    for size in sizes:
        piece, rest = _take_first(rest, size)
        pieces.append(piece)
    return pieces


def _bind(width, axis):
    if width in axis.widths():
        raise TieError(f"{width} would have to contain itself")
    if axis.kind == "width":
        axis.parts.unit = math.lcm(axis.parts.unit, width.unit)
    width.binding = axis


def _tie_products(first, second):
    """Aligns the factors of two products from the outside in."""
    while first.kind == "product" and second.kind == "product":
        size = min(first.parts[0].size(), second.parts[0].size())
        (a, first), (b, second) = _take_outer(first, size), _take_outer(second, size)
        tie(a, b)
        first, second = first.resolve(), second.resolve()
    tie(first, second)


def _tie_concats(first, second):
    """Aligns consecutive pieces; a product with a fixed outer part is repeated."""
    first, second = _as_concat(first), _as_concat(second)
    while True:
        if first.kind != "concat" or second.kind != "concat":
            tie(first, second)
            return
        size = min(first.parts[0].size(), second.parts[0].size())
        (a, first), (b, second) = _take_first(first, size), _take_first(second, size)
        tie(a, b)
        first, second = first.resolve(), second.resolve()


def _as_concat(axis):
    if axis.kind == "concat":
        return axis
    outer, *inner = axis.parts
    if axis.kind != "product" or outer.kind != "fixed":
        raise TieError("a flattened axis and a concatenated one are folded differently")
    return ax.concat([ax.product(inner)] * outer.parts)


def _take_outer(axis, size):
    """(outermost factor of the given size, rest) of an axis read as a product."""
    axis = axis.resolve()
    if size == 1:
        return ax.fixed(1), axis
    if axis.size() == size:
        return axis, ax.fixed(1)
    if axis.kind == "product":
        head, *tail = axis.parts
        if head.size() is not None and head.size() <= size:
            if size % head.size():
                raise TieError(f"{size} is no multiple of {head.size()}")
            more, rest = _take_outer(ax.product(tail), size // head.size())
            return ax.product([head, more]), rest
        piece, rest = _take_outer(head, size)
        return piece, ax.product([rest, *tail])
    if axis.size() is None or axis.size() % size:
        raise TieError(f"an axis of size {axis.size()} does not split by {size}")
    if axis.kind == "fixed":
        return ax.fixed(size), ax.fixed(axis.parts // size)
    if axis.kind == "width":
        axis.parts.split(size)
        return _take_outer(axis, size)
    return _take_outer(_equal_parts(axis, size), size)


def _equal_parts(axis, count):
    """A concatenation of `count` equal axes, read as a product."""
    pieces = split_concat(axis, [axis.size() // count] * count)
    for piece in pieces[1:]:
        tie(pieces[0], piece)
    return ax.product([ax.fixed(count), pieces[0].resolve()])


def _take_first(axis, size):
    """(first piece of the given size, rest) of an axis read as a concatenation."""
    axis = axis.resolve()
    if size == 0:
        return ax.fixed(0), axis
    if axis.size() == size:
        return axis, ax.fixed(0)
    if axis.size() is None or axis.size() < size:
        raise TieError(f"an axis of size {axis.size()} has no first {size} positions")
    if axis.kind == "fixed":
        return ax.fixed(size), ax.fixed(axis.parts - size)
    if axis.kind == "width":
        axis.parts.divide([size, axis.size() - size])
        return _take_first(axis, size)
    if axis.kind == "concat":
        head, *tail = axis.parts
        if head.size() <= size:
            more, rest = _take_first(ax.concat(tail), size - head.size())
            return ax.concat([head, more]), rest
        piece, rest = _take_first(head, size)
        return piece, ax.concat([rest, *tail])
    outer, *inner = axis.parts
    inner = ax.product(inner)
    if inner.size() and size % inner.size() == 0:
        piece, rest = _take_first(outer, size // inner.size())
        return ax.product([piece, inner]), ax.product([rest, inner])
    raise TieError(f"a flattened axis has no first {size} positions")
