"""Golden values for src/data/components.ts: connected components by SciPy, each label by itself.

Run: /usr/bin/python3 tests/data/components.py > tests/data/components.json, then biome format --write tests/data
(SciPy 1.10.1, NumPy 1.24.2; noise from NumPy's default_rng(20261128))
"""

import json

import numpy as np
from scipy import ndimage

VOID = 255
STRUCTURES = {4: ndimage.generate_binary_structure(2, 1), 8: ndimage.generate_binary_structure(2, 2)}
random = np.random.default_rng(20261128)


def spiral(size):
    """A band that winds to the middle: the run-based scan must join many runs that meet only late."""
    field = np.zeros((size, size), int)
    y = x = 0
    dy, dx = 0, 1
    for turn in range(size):
        length = size - 1 - 2 * ((turn + 1) // 2) if turn else size - 1
        if length < 1:
            break
        for _ in range(length):
            field[y, x] = 1
            y, x = y + dy, x + dx
        dy, dx = dx, -dy
    return field


def blobs(height, width):
    smooth = ndimage.gaussian_filter(random.standard_normal((4, height, width)), (0, 1.5, 1.5))
    labels = smooth.argmax(0)
    labels[random.random(labels.shape) < 0.1] = VOID
    return labels


def expected(labels, connectivity):
    found = []
    for label in np.unique(labels[labels != VOID]):
        places, count = ndimage.label(labels == label, STRUCTURES[connectivity])
        for k, (rows, columns) in enumerate(ndimage.find_objects(places), 1):
            inside = places == k
            box = [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]
            found.append((int(np.flatnonzero(inside)[0]), inside, dict(label=int(label), pixels=int(inside.sum()), box=box)))
    found.sort(key=lambda entry: entry[0])
    ids = np.full(labels.shape, -1)
    for k, (_, inside, _) in enumerate(found):
        ids[inside] = k
    return dict(ids=ids.ravel().tolist(), components=[component for _, _, component in found])


maps = {
    "noise of 3 labels": random.integers(0, 3, (9, 11)),
    "noise with void": np.where(random.random((8, 13)) < 0.3, VOID, random.integers(0, 2, (8, 13))),
    "blobs": blobs(14, 17),
    "spiral": spiral(11),
    "checkerboard": np.indices((5, 6)).sum(0) % 2,
    "one row": random.integers(0, 2, (1, 9)),
    "one column": random.integers(0, 2, (9, 1)),
}
print(
    json.dumps(
        {
            name: dict(
                width=labels.shape[1],
                height=labels.shape[0],
                labels=labels.ravel().tolist(),
                by4=expected(labels, 4),
                by8=expected(labels, 8),
            )
            for name, labels in maps.items()
        }
    )
)
