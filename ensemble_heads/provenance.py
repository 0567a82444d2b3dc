"""Which code, versions and kind of machine a result was made with."""

import os
import platform
import subprocess
from pathlib import Path

import tensorflow as tf

from ensemble_heads.keras_api import keras


def describe():
    """What to write beside a measured number so that it can be measured again.

    >>> from ensemble_heads import provenance
    >>> list(provenance.describe())
    ['commit', 'python', 'tensorflow', 'keras', 'machine']

    Returns:
        dict of str: the versions; `machine` as "2-core CPU", with the accelerators
        that TensorFlow sees and never a host's name; and `commit`, which ends in
        "-dirty" where files differ from it, or is "" outside a checkout.
    """
    return {
        "commit": _commit(Path(__file__).resolve().parents[1]),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "machine": _machine(),
    }


def tensorflow_line():
    """The TensorFlow line in use, such as "2.15"."""
    return ".".join(tf.__version__.split(".")[:2])


def _commit(folder):
    # Asked here only: an installed package may lie in somebody else's checkout.
    if not (folder / ".git").exists():
        return ""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--match="]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip()


def _machine():
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        cores = os.cpu_count()
    parts = [f"{cores}-core CPU"]
    for kind in ("GPU", "TPU"):
        count = len(tf.config.list_physical_devices(kind))
        parts += [f"{count} {kind}"] if count else []
    return ", ".join(parts)
