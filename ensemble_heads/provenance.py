"""Which code, versions and kind of machine a result was made with."""

import os
import platform
import subprocess
from pathlib import Path

import tensorflow as tf

from ensemble_heads.keras_api import keras

# What a CPU computes with decides which kernels TensorFlow takes: oneDNN's only with
# AVX-512, and bfloat16 without an instruction for it is slower than float32.
_INSTRUCTIONS = {
    "avx512_bf16": "AVX-512 and bfloat16",
    "avx512f": "AVX-512",
    "avx2": "AVX2",
}


def describe():
    """What to write beside a measured number so that it can be measured again.

    >>> from ensemble_heads import provenance
    >>> list(provenance.describe())
    ['commit', 'python', 'tensorflow', 'keras', 'machine']

    Returns:
        dict of str: the versions; `machine` as "2-core CPU with AVX2", where Linux
        tells, with the accelerators that TensorFlow sees and never a host's name; and
        `commit`, which ends in "-dirty" where files differ from it, or is "" outside a
        checkout.
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
    known = _cpu_flags()
    vectors = [f" with {text}" for flag, text in _INSTRUCTIONS.items() if flag in known]
    parts = [f"{cores}-core CPU{''.join(vectors[:1])}"]
    for kind in ("GPU", "TPU"):
        count = len(tf.config.list_physical_devices(kind))
        parts += [f"{count} {kind}"] if count else []
    return ", ".join(parts)


def _cpu_flags():
    """Set of the instructions of the first core; empty but on Linux on x86."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return set()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return set(value.split())
    return set()
