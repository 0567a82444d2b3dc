"""Checks of arguments that several data sets take."""


def check_choices(**values):
    """Raises `ValueError` unless each (value, known ones) has a known value."""
    for name, (value, known) in values.items():
        if value not in known:
            raise ValueError(
                f"`{name}` must be one of {known}. Received: {name}={value!r}"
            )


def check_ranges(**values):
    """Raises `ValueError` unless each (value, lowest one) is in its range."""
    for name, (value, low) in values.items():
        if value < low:
            raise ValueError(
                f"`{name}` must be at least {low}. Received: {name}={value}"
            )


def check_epochs(epochs):
    """Raises `ValueError` unless it is at least 1, or None for no end."""
    if epochs is not None and epochs < 1:
        raise ValueError(
            f"`epochs` must be at least 1, or None for no end. Received: {epochs}"
        )


def check_shard(shard):
    """Raises `ValueError` unless it is the (index, count) of a worker."""
    index, count = shard
    if not 0 <= index < count:
        raise ValueError(
            "`shard` must be (index, count) with 0 <= index < count. "
            f"Received: shard={shard}"
        )
