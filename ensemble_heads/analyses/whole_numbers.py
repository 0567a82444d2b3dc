"""What is counted or indexed has to be whole: checked before anything is computed."""

import numpy as np


def whole_numbers(name, values, lowest, highest):
    """A number or a list of numbers as a list of int.

    Args:
        name: str, the argument's name for the message.
        values: int or list or array of int.
        lowest, highest: int, limits that may be reached.

    Raises:
        ValueError: no number, one that is not whole, or one beyond the limits.
    """
    flat = np.asarray(values).reshape(-1)
    if (
        flat.dtype.kind not in "iu"
        or not flat.size
        or flat.min() < lowest
        or flat.max() > highest
    ):
        raise ValueError(
            f"`{name}` must be whole, from {lowest} to {highest}. "
            f"Received: {name}={values!r}"
        )
    return flat.tolist()
