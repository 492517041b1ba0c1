"""Golden values of hard example mining, in NumPy and float64, from the definitions: /usr/bin/python3 tests/parity/mining.py.
Top-k as TensorFlow's DeepLab has it (research/deeplab/utils/train_utils.py), OHEM as hszhao/semseg and its followers."""
import sys

import numpy as np
import torch

sys.dont_write_bytecode = True
from golden_io import save_tensors  # noqa: E402

SEED = 20240229
VOID = 255


def parts(logits, target, weight):
    """Of all pixels in a row: probabilities [P, K], whether they count, weight and probability of the right class."""
    k = logits.shape[1]
    flat = np.moveaxis(logits, 1, -1).reshape(-1, k)
    e = np.exp(flat - flat.max(1, keepdims=True))
    p = e / e.sum(1, keepdims=True)
    labels = target.reshape(-1)
    counted = labels != VOID
    safe = np.where(counted, labels, 0)
    w = np.where(counted, weight[safe], 0.0)
    return p, counted, safe, w, p[np.arange(len(labels)), safe]


def gradient(shape, p, labels, factor):
    """Of sum(factor * -log p of the label) by the logits."""
    one = np.eye(p.shape[1])[labels]
    g = (p - one) * factor[:, None]
    n, k, h, width = shape
    return np.moveaxis(g.reshape(n, h, width, k), -1, 1)


def top_k(logits, target, weight, step, top, mining_step):
    p, counted, labels, w, right = parts(logits, target, weight)
    losses = np.where(counted, w * -np.log(right), 0.0)
    ratio = 1.0 if mining_step == 0 else min(1.0, step / mining_step)
    k = int((ratio * top + (1 - ratio)) * losses.size)
    kept = np.zeros(losses.size, bool)
    kept[np.argsort(-losses, kind="stable")[:k]] = True
    present = np.count_nonzero(losses[kept])
    loss = losses[kept].sum() / max(present, 1)
    return loss, gradient(logits.shape, p, labels, np.where(kept, w, 0.0) / max(present, 1))


def ohem(logits, target, weight, threshold, min_kept):
    p, counted, labels, w, right = parts(logits, target, weight)
    limit = threshold
    if min_kept > 0:
        ordered = np.sort(right[counted])
        limit = max(limit, ordered[min(min_kept, len(ordered)) - 1])
    kept = counted & (right <= limit)
    total = w[kept].sum()
    return (w * -np.log(right))[kept].sum() / total, gradient(logits.shape, p, labels, np.where(kept, w, 0.0) / total)


if __name__ == "__main__":
    random = np.random.default_rng(SEED)
    logits = random.normal(size=(2, 4, 6, 5)) * 2
    target = random.integers(0, 4, size=(2, 6, 5))
    target[0, 1:3] = VOID
    target[1, :, 4] = VOID
    weight = np.array([0.25, 2.0, 1.0, 4.0])
    out = {"logits": logits, "target": target, "weight": weight}
    for name, w in {"plain": np.ones(4), "weighted": weight}.items():
        for step, top, mining_step in [(0, 0.25, 100), (50, 0.25, 100), (99, 0.25, 100), (100, 0.25, 100), (7, 0.9, 0), (3, 0.1, 0)]:
            key = f"{name} top-k {top} step {step} of {mining_step}"
            out[f"{key}/loss"], out[f"{key}/grad"] = top_k(logits, target, w, step, top, mining_step)
        for threshold, min_kept in [(0.7, 0), (0.2, 0), (0.05, 12), (0.7, 3), (0.01, 1000)]:
            key = f"{name} ohem {threshold} at least {min_kept}"
            out[f"{key}/loss"], out[f"{key}/grad"] = ohem(logits, target, w, threshold, min_kept)
    save_tensors("mining", {key: torch.tensor(np.array(value)) for key, value in out.items()}, "mining.py", SEED)
