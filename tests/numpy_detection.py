"""Detection as naive loops in NumPy float64: an oracle for tests.

Written from the definitions, not from the library.
"""

import numpy as np


def overlap(first, second):
    """Intersection over union of two boxes (y1, x1, y2, x2)."""
    height = min(first[2], second[2]) - max(first[0], second[0])
    width = min(first[3], second[3]) - max(first[1], second[1])
    if height <= 0 or width <= 0:
        return 0.0
    areas = [(y2 - y1) * (x2 - x1) for y1, x1, y2, x2 in (first, second)]
    return height * width / (sum(areas) - height * width)


def offsets(box, proposal):
    """Fast R-CNN's offsets, divided by 0.1, 0.1, 0.2 and 0.2."""
    result = []
    for axis in (0, 1):
        side = proposal[axis + 2] - proposal[axis]
        centre = (proposal[axis + 2] + proposal[axis]) / 2
        result.append(((box[axis + 2] + box[axis]) / 2 - centre) / side / 0.1)
    for axis in (0, 1):
        side = proposal[axis + 2] - proposal[axis]
        result.append(np.log((box[axis + 2] - box[axis]) / side) / 0.2)
    return result


def voc_class_precision(objects, detections, number, threshold=0.5, ignore=True):
    """Average precision of a class by VOC 2007, or None where it has no objects.

    Args:
        objects: list per image of (box, class, difficult).
        detections: list per image of (box, class, score).
        number: the class.
    """
    mine = [[o for o in image if o[1] == number] for image in objects]
    positives = sum(not (o[2] and ignore) for image in mine for o in image)
    if not positives:
        return None
    ranked = [
        (score, image, box)
        for image, found in enumerate(detections)
        for box, kind, score in found
        if kind == number
    ]
    ranked.sort(key=lambda entry: -entry[0])
    taken, verdicts = set(), []
    for score, image, box in ranked:
        overlaps = [overlap(box, o[0]) for o in mine[image]]
        best = int(np.argmax(overlaps)) if overlaps else None
        if best is None or overlaps[best] < threshold:
            verdicts.append((score, False))
        elif mine[image][best][2] and ignore:
            continue
        else:
            verdicts.append((score, (image, best) not in taken))
            taken.add((image, best))
    points = []
    for level in sorted({score for score, _ in verdicts}):
        kept = [hit for score, hit in verdicts if score >= level]
        points.append((sum(kept), sum(kept) / len(kept)))
    best = [
        max([p for hits, p in points if 10 * hits >= k * positives], default=0.0)
        for k in range(11)
    ]
    return float(np.mean(best))
