"""The outputs of a model by name and position: one tensor, a list or a dict.

Predictions, targets, losses, weights and metrics all come in the structure of the
outputs. Inside the library they are flat lists in one order, which `Outputs` defines.
"""

import tensorflow as tf


class Outputs:
    """Names and structure of a model's outputs.

    Attributes:
        names: list of str; a dict's keys, sorted, or the names of the output layers.
    """

    def __init__(self, structure, names=None):
        """Takes the structure of `structure`, whatever its leaves are.

        Args:
            structure: one leaf, or a flat list, tuple or dict of leaves.
            names: list of str, one per leaf; a dict brings its own.
        """
        if isinstance(structure, (list, tuple)) and len(structure) == 1:
            (structure,) = structure  # a call gives it bare, on both lines
        if isinstance(structure, dict):
            names = sorted(structure)
        self.kind = type(structure) if isinstance(structure, (list, tuple)) else None
        self.is_dict = isinstance(structure, dict)
        self.is_single = self.kind is None and not self.is_dict
        size = 1 if self.is_single else len(structure)
        self.names = list(names or [f"output_{i}" for i in range(size)])
        leaves = structure.values() if self.is_dict else structure
        nested = not self.is_single and any(
            isinstance(leaf, (list, tuple, dict)) for leaf in leaves
        )
        if nested or len(self.names) != size:
            raise ValueError(
                "The outputs of a head must be one tensor, or a flat list or dict of "
                f"tensors. Received: {tf.nest.map_structure(str, structure)}"
            )

    def __len__(self):
        return len(self.names)

    def pack(self, leaves):
        """The flat list `leaves` in the structure of the outputs."""
        if self.is_single:
            return leaves[0]
        if self.is_dict:
            return dict(zip(self.names, leaves, strict=True))
        return tuple(leaves) if self.kind is tuple else list(leaves)

    def flatten(self, values, argument, shared=False):
        """One leaf per output, in order.

        Args:
            values: dict by output name (missing names give None), list or tuple by
                position, or a single leaf.
            argument: str, what the values are called in messages.
            shared: bool, a single leaf stands for all outputs; else it is an error
                when there are several.

        Returns:
            List of leaves.

        Raises:
            ValueError: unknown names, or another number of values than of outputs.
        """
        if isinstance(values, dict):
            return self._from_dict(values, argument)
        if isinstance(values, (list, tuple)) and len(values) == len(self):
            return list(values)
        if not isinstance(values, (list, tuple)) and (self.is_single or shared):
            return [values] * len(self)
        raise ValueError(
            f"`{argument}` must be a list or dict with one entry for each of the "
            f"{len(self)} outputs {self.names}. Received: {argument}={values!r}"
        )

    def _from_dict(self, values, argument):
        unknown = [name for name in values if name not in self.names]
        if unknown:
            raise ValueError(
                f"`{argument}` must use the names of the outputs, {self.names}. "
                f"Received: {argument} with {unknown}"
            )
        return [values.get(name) for name in self.names]
