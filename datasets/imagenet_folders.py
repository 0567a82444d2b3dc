"""Images as files: a folder for each class, or one folder and a list of labels.

Classes are numbered from 0 in the order of their sorted names, as all published
models of ILSVRC 2012 have them. `list_images` knows

* `train/n01440764/n01440764_10026.JPEG`, a folder named by synset for each class, and
  the same below `val` or `validation`;
* ILSVRC's own flat folder of `ILSVRC2012_val_00000001.JPEG` to 50000, with a list
  (`LISTS`) beside it or beside its parent.
"""

import csv
import dataclasses
import os
from pathlib import PurePosixPath

import numpy as np
import tensorflow as tf

FOLDERS = {"train": ("train",), "validation": ("val", "validation")}
# In the order in which they are looked for: Caffe's "name number", the synset of every
# image by TF-Slim and the TPU's tools, Kaggle's, and the development kit's own.
LISTS = (
    "val.txt",
    "imagenet_2012_validation_synset_labels.txt",
    "LOC_val_solution.csv",
    "ILSVRC2012_validation_ground_truth.txt",
)
SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".gif")

_DEVKIT_CLASSES = "meta.mat"


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """Files and their classes.

    Attributes:
        paths: list of str.
        names: list of str, the same below the split's folder, with "/".
        labels: int64 `[files]`, from 0.
    """

    paths: list
    names: list
    labels: np.ndarray


def split_folder(split, data_dir):
    """The folder of a split, or None."""
    for name in FOLDERS[split]:
        folder = _join(str(data_dir).rstrip("/\\"), name)
        if tf.io.gfile.isdir(folder):
            return folder
    return None


def list_images(
    split, data_dir, num_classes, *, class_names=None, image_list=None, label_offset=0
):
    """The `Images` of a split: sorted by name, or in the order of a list.

    Args:
        split: `"train"` or `"validation"`.
        data_dir: str, the folder above `train` and `val`.
        num_classes: int.
        class_names: list of str, or path of a file that has one at the start of each
            line: the classes in the order of their numbers. Of a tree these folders
            are read and no others. Default: all that there are, sorted.
        image_list: path of a list, also below `data_dir`, of lines `name label`; or of
            a label for each image of a flat folder, in the order of their names.
            A list that is given may name some of the images; one that is found beside
            them must name all.
            Labels are names of classes, or numbers from `label_offset`.
        label_offset: int.

    Raises:
        FileNotFoundError: no such folder, or images of the list that are missing.
        ValueError: missing classes, labels out of range, or a list not understood.
    """
    folder = split_folder(split, data_dir)
    if folder is None:
        raise FileNotFoundError(
            f"`data_dir` must hold a folder {' or '.join(FOLDERS[split])!r}. "
            f"Received: data_dir={str(data_dir)!r}"
        )
    if class_names is not None:
        class_names = _class_names(class_names, num_classes)
    images, folders = _entries(folder)
    if image_list is None and folders and not images:
        return _tree(folder, folders, num_classes, class_names)
    if folders and images:
        raise ValueError(
            "`data_dir` must have images either in class folders or in one folder. "
            f"Received: {_join(folder, images[0])} beside {folders[0]}"
        )
    path = _find_list(image_list, data_dir, folder)
    names, classes = _read_list(path, images)
    labels = _numbers(classes, path, num_classes, class_names, label_offset)
    _check_there(folder, names, images, path)
    if image_list is None and (unnamed := sorted(set(images) - set(names))):
        raise ValueError(
            "The list of labels must name all images of its folder; `image_list` may "
            f"be one that names some. Received: {path}, without {unnamed[0]!r} and "
            f"{len(unnamed) - 1} others of {folder}"
        )
    return Images([_join(folder, name) for name in names], names, labels)


def _tree(folder, folders, num_classes, class_names):
    classes = folders if class_names is None else class_names
    if missing := sorted(set(classes) - set(folders)):
        raise ValueError(
            "`data_dir` must have a folder for each class. Received: none for "
            f"{missing[0]!r} in {folder}, and {len(missing)} missing in all"
        )
    if len(classes) != num_classes:
        raise ValueError(
            f"`data_dir` must have a folder for each of num_classes={num_classes} "
            "classes; `class_names` says which, where only some are wanted. Received: "
            f"{len(classes)} folders in {folder}"
        )
    names, labels = [], []
    for label, name in enumerate(classes):
        images, below = _entries(_join(folder, name))
        if below or not images:
            found = f"a folder {below[0]!r}" if below else "none"
            raise ValueError(
                f"`data_dir` must have images, and nothing else, in each class folder. "
                f"Received: {found} in {_join(folder, name)}"
            )
        names += [_join(name, image) for image in images]
        labels += [label] * len(images)
    paths = [_join(folder, name) for name in names]
    return Images(paths, names, np.array(labels, np.int64))


def _entries(folder):
    """(names of images, names of folders), sorted; what else there is, is an error."""
    images, folders = [], []
    for name in sorted(tf.io.gfile.listdir(folder)):
        name = name.rstrip("/")
        if name.startswith("."):
            continue  # a system's own, such as .DS_Store
        if name.lower().endswith(SUFFIXES):
            images.append(name)
        elif tf.io.gfile.isdir(_join(folder, name)):
            folders.append(name)
        elif name not in (*LISTS, _DEVKIT_CLASSES):
            raise ValueError(
                f"`data_dir` must hold images ({', '.join(SUFFIXES)}) and folders of "
                f"them. Received: {_join(folder, name)}"
            )
    return images, folders


def _class_names(names, num_classes):
    if isinstance(names, (str, os.PathLike)):
        path = os.fspath(names)
        lines = _lines(path)
        names = [line.split()[0] for line in lines]
    names = list(names)
    if len(set(names)) != len(names) or len(names) != num_classes:
        raise ValueError(
            f"`class_names` must name num_classes={num_classes} classes, each once. "
            f"Received: {len(names)} names, {len(set(names))} of them different"
        )
    return names


def _find_list(image_list, data_dir, folder):
    above = str(data_dir).rstrip("/\\")
    if image_list is not None:
        wanted = [image_list, _join(above, image_list)]
        said = f"image_list={image_list!r}, which is not there"
    else:
        wanted = [_join(place, name) for name in LISTS for place in (above, folder)]
        said = f"none of {LISTS} in {above} or {folder}"
    for path in wanted:
        if tf.io.gfile.exists(path):
            return path
    raise FileNotFoundError(
        "`image_list` must be the list of labels of a folder without class folders. "
        f"Received: {said}"
    )


def _read_list(path, images):
    """(names, labels as written or as ints) of a list."""
    lines = _lines(path)
    if lines and lines[0].startswith("ImageId,"):
        rows = list(csv.reader(lines[1:]))
        pairs = [(row[0], row[1].split()[0]) for row in rows]
    else:
        pairs = [line.rsplit(maxsplit=1) for line in lines]
    widths = {len(pair) for pair in pairs}
    if len(widths) != 1:
        raise ValueError(
            "`image_list` must have lines that are all `name label`, or all a label. "
            f"Received: {path}, with {len(pairs)} lines of {sorted(widths)} parts"
        )
    classes = [pair[-1] for pair in pairs]
    if widths == {2}:
        names = [
            name if PurePosixPath(name).suffix else f"{name}.JPEG" for name, _ in pairs
        ]
        if len(set(names)) != len(names):
            again = next(name for n, name in enumerate(names) if name in names[:n])
            raise ValueError(
                f"`image_list` must name every image once. Received: {again!r} more "
                f"than once in {path}"
            )
        return names, classes
    if len(classes) != len(images):
        raise ValueError(
            "`image_list` must have as many labels as there are images. Received: "
            f"{len(classes)} in {path} for {len(images)}"
        )
    if all(one.isdecimal() for one in classes):
        classes = _devkit_classes(classes, path)
    return images, classes


def _devkit_classes(numbers, path):
    """Synsets by the development kit's own numbers, which are not those by name."""
    meta = _join(str(PurePosixPath(path).parent), _DEVKIT_CLASSES)
    if not tf.io.gfile.exists(meta):
        raise FileNotFoundError(
            "`image_list` of numbers alone must be the development kit's, which "
            f"numbers classes in an order of its own, with {_DEVKIT_CLASSES} beside "
            f"it. Received: {path} without {meta}"
        )
    try:
        from scipy import io
    except ImportError as error:
        raise ImportError(
            f"{_DEVKIT_CLASSES} is read by scipy, which is not installed: "
            "pip install -e '.[recipes]'"
        ) from error
    with tf.io.gfile.GFile(meta, "rb") as file:
        synsets = io.loadmat(file, squeeze_me=True)["synsets"]
    leaves = synsets[synsets["num_children"] == 0]
    known = {int(n): str(w) for n, w in zip(leaves["ILSVRC2012_ID"], leaves["WNID"])}
    unknown = [one for one in numbers if int(one) not in known]
    if unknown:
        raise ValueError(
            f"`image_list` must hold the numbers of {len(known)} classes in {meta}. "
            f"Received: {unknown[0]} in {path}"
        )
    return [known[int(one)] for one in numbers]


def _numbers(classes, path, num_classes, class_names, label_offset):
    """int64 `[images]` of the labels of a list."""
    if all(one.isdecimal() for one in classes):
        labels = np.array(classes, np.int64) - label_offset
        wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
        if len(wrong):
            raise ValueError(
                f"`image_list` must hold labels from {label_offset} to "
                f"{label_offset + num_classes - 1}, as num_classes={num_classes} and "
                f"label_offset={label_offset} say. Received: {classes[wrong[0]]} for "
                f"image {wrong[0] + 1} of {path}"
            )
        return labels
    known = sorted(set(classes)) if class_names is None else class_names
    if len(known) != num_classes:
        raise ValueError(
            f"`image_list` must have images of all num_classes={num_classes} classes; "
            "otherwise `class_names` must give their numbers. Received: "
            f"{len(known)} classes in {path}"
        )
    by_name = {name: number for number, name in enumerate(known)}
    unknown = [(n, one) for n, one in enumerate(classes) if one not in by_name]
    if unknown:
        raise ValueError(
            f"`image_list` must hold classes of `class_names`. Received: "
            f"{unknown[0][1]!r} for image {unknown[0][0] + 1} of {path}"
        )
    return np.array([by_name[one] for one in classes], np.int64)


def _check_there(folder, names, images, path):
    there = set(images)
    parents = {str(PurePosixPath(name).parent) for name in names} - {"."}
    for parent in sorted(parents):
        below = _join(folder, parent)
        found = tf.io.gfile.listdir(below) if tf.io.gfile.isdir(below) else ()
        there.update(_join(parent, name) for name in found)
    missing = [name for name in names if name not in there]
    if missing:
        raise FileNotFoundError(
            f"`image_list` must name images that exist. Received: {missing[0]!r} of "
            f"{path}, which is not in {folder}, and {len(missing)} missing in all"
        )


def _lines(path):
    with tf.io.gfile.GFile(path) as file:
        return [line.strip() for line in file if line.strip()]


def _join(folder, name):
    return f"{folder}/{name}"
