"""Readers of folders of small images: idx, npz, and sheets of tiles.

A reader takes `(folder, part, image_set)` and returns what it `Found`, or None where
the folder holds nothing of its form. Nothing here can unpickle.
"""

import contextlib
import dataclasses
import gzip
import math
import re
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

_IDX_PREFIX = {"train": "train", "test": "t10k"}
_SHEET_SUFFIXES = (".webp", ".png")
_BROKEN = (EOFError, OSError, zlib.error, zipfile.BadZipFile, struct.error, ValueError)


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """Images and labels as a reader found them, not yet checked.

    Attributes:
        images: uint8 `[examples, height, width, channels]`, channels may be missing.
        labels: int `[examples]` or `[examples, 1]`.
        path: where, for errors.
        any_number: bool, whether there may be another number than was published.
    """

    images: np.ndarray
    labels: np.ndarray
    path: object
    any_number: bool = False


def bad_file(path, rule, received):
    """The `ValueError` about a file that breaks a rule, such as "hold 10 images"."""
    return ValueError(f"{path} must {rule}. Received: {received}")


@contextlib.contextmanager
def readable(path, kind):
    """Context in which what a broken file raises becomes a `ValueError` that names it.

    Args:
        path: the file.
        kind: str, what it must be, such as "a gzip file".
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except _BROKEN as error:
        rule = f"be {kind} that is whole"
        raise bad_file(path, rule, f"{type(error).__name__}: {error}") from error


def read_idx(folder, part, image_set):
    """The four idx files of MNIST's form, gzipped or not."""
    prefix = _IDX_PREFIX[part]
    images = _idx_path(folder, f"{prefix}-images-idx3-ubyte")
    labels = _idx_path(folder, f"{prefix}-labels-idx1-ubyte")
    if images is None and labels is None:
        return None
    for path, other in ((images, labels), (labels, images)):
        if path is None:
            kind = "images" if other is labels else "labels"
            rule = f"have the file of the {kind} beside it"
            raise bad_file(other, rule, f"none in {folder}")
    return Found(_idx(images, 3), _idx(labels, 1), images)


def read_npz(folder, part, image_set):
    """One npz file of x_train, y_train, x_test and y_test, of any number of images."""
    folder = Path(folder)
    paths = [folder] if folder.suffix == ".npz" else sorted(folder.glob("*.npz"))
    if not paths:
        return None
    if len(paths) > 1:
        raise bad_file(folder, "hold one npz file", [path.name for path in paths])
    (path,) = paths
    names = (f"x_{part}", f"y_{part}")
    with readable(path, "an npz file of numbers"):
        if not zipfile.is_zipfile(path):
            # NumPy would take it for an npy file, or for a pickle.
            raise zipfile.BadZipFile("it is no zip archive")
        with np.load(path) as arrays:
            if set(names) <= set(arrays.files):
                chosen = (arrays[name] for name in names)
                return Found(*chosen, path, any_number=True)
            found = arrays.files
    raise bad_file(path, f"hold {' and '.join(names)}", found)


def read_sheets(folder, part, image_set):
    """Sheets of tiles, train_00.webp (or png) and so on, with train_labels.npy.

    Each sheet holds images side by side without gaps, row after row; the labels are
    integers in the same order, sheet after sheet.
    """
    pattern = re.compile(rf"{part}_\d+")
    sheets = [
        path
        for path in Path(folder).glob(f"{part}_*")
        if path.suffix in _SHEET_SUFFIXES and pattern.fullmatch(path.stem)
    ]
    # By number: as a text, 10 would come before 2.
    sheets.sort(key=lambda path: (int(path.stem.rpartition("_")[2]), path))
    if not sheets:
        return None
    path = Path(folder) / f"{part}_labels.npy"
    if not path.exists():
        raise bad_file(path, "exist, beside the sheets", f"no such file in {folder}")
    with readable(path, "an npy file of numbers"):
        labels = np.load(path)
    tiles = [_tiles(sheet, image_set.image_shape) for sheet in sheets]
    return Found(np.concatenate(tiles), labels, folder)


def _idx_path(folder, name):
    for path in (Path(folder) / name, Path(folder) / f"{name}.gz"):
        if path.exists():
            return path
    return None


def _idx(path, rank):
    """uint8 array of an idx file."""
    with readable(path, "a gzip file" if path.suffix == ".gz" else "an idx file"):
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
    start = 4 + 4 * rank
    magic = bytes([0, 0, 8, rank])
    if data[:4] == magic and len(data) < start:
        rule = f"hold the {start} bytes that an idx file begins with"
        raise bad_file(path, rule, f"{len(data)} bytes")
    if data[:4] != magic:
        rule = f"be an idx file of bytes in {rank} dimensions, starting {magic.hex()}"
        raise bad_file(path, rule, data[:4].hex() or "an empty file")
    shape = struct.unpack(f">{rank}I", data[4:start])
    if len(data) - start != math.prod(shape):
        rule = f"hold {math.prod(shape)} bytes, for the shape {shape} that it names"
        raise bad_file(path, rule, f"{len(data) - start} bytes")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _tiles(path, shape):
    """uint8 `[tiles, height, width, channels]` of one sheet."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "Sheets of tiles are read by Pillow, which is not installed: "
            "pip install -e '.[recipes]'"
        ) from error
    height, width, channels = shape
    with readable(path, "an image"), Image.open(path) as image:
        sheet = np.asarray(image.convert("RGB" if channels == 3 else "L"))
    rows, columns = sheet.shape[0] // height, sheet.shape[1] // width
    if sheet.shape[:2] != (rows * height, columns * width) or not rows * columns:
        rule = f"hold whole tiles of {height} x {width} pixels"
        raise bad_file(path, rule, f"{sheet.shape[0]} x {sheet.shape[1]} pixels")
    grid = sheet.reshape(rows, height, columns, width, channels)
    return grid.transpose(0, 2, 1, 3, 4).reshape(-1, *shape)
