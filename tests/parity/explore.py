"""Makes explore.json, by hand: /usr/bin/python3 tests/parity/explore.py (Debian: python3-torch, python3-scipy).
Objects are SciPy's (8 neighbours), frequencies NumPy's; the perceptual hash is made with SciPy's cosine transform, and likeness is
NumPy's correlation. The masks and pictures follow formulas that the test has too."""
import sys

import numpy as np
from scipy.fft import dctn
from scipy.ndimage import label

sys.dont_write_bytecode = True
from golden_io import save_json  # noqa: E402

WIDTH, HEIGHT, VOID, SIDE, SPECK = 37, 23, 255, 32, 16


def mask(k):
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    values = (x * x + 3 * y * y + 5 * x * y + 7 * k) // 11 % 5
    return np.where(values == 4, VOID, values)


def objects(labels, c):
    numbers, _ = label(labels == c, structure=np.ones((3, 3)))
    return np.bincount(numbers.ravel())[1:]


masks = [mask(k) for k in range(3)]
masks[2][masks[2] == 3] = 0
statistics = []
for c in range(4):
    having = [m for m in masks if (m == c).any()]
    pieces = [] if c == 0 else sorted(int(n) for m in masks for n in objects(m, c))
    statistics.append({
        "pixels": int(sum((m == c).sum() for m in masks)),
        "images": len(having),
        "pixelsOfItsImages": int(sum((m != VOID).sum() for m in having)),
        "objects": [n for n in pieces if n >= SPECK],
        "specks": len([n for n in pieces if n < SPECK]),
    })
together = [[sum(bool((m == a).any() and (m == b).any()) for m in masks) for b in range(4)] for a in range(4)]


def picture(k):
    y, x, c = np.mgrid[:SIDE, :SIDE, :3]
    return ((x * (k + 2) + y * (7 - k) + x * y * (k + 1) // 8 + 40 * c + (x - 9) ** 2 // (k + 3)) % 256).astype(float)


def brightness(rgb):
    return rgb @ np.array([0.2989, 0.587, 0.114])


def pHash(rgb):
    low = dctn(brightness(rgb), type=2)[:8, :8].ravel()
    bits = low > np.median(low[1:])
    bits[0] = False  # the mean: not part of the hash
    return "".join("1" if bit else "0" for bit in bits)


pictures = [picture(k) for k in range(4)]
flat = [brightness(p).ravel() for p in pictures]
mirrored = [brightness(p[:, ::-1]).ravel() for p in pictures]
correlation = lambda a, b: float(np.corrcoef(a, b)[0, 1])
save_json("explore", {
    "classes": statistics,
    "together": together,
    "void": int(sum((m == VOID).sum() for m in masks)),
    "hashes": [pHash(p) for p in pictures],
    "mirrored": [pHash(p[:, ::-1]) for p in pictures],
    "likeness": [[max(correlation(a, b), correlation(a, m)) for b, m in zip(flat, mirrored)] for a in flat],
}, "explore.py", "none")
