"""Makes regions.safetensors, by hand: /usr/bin/python3 tests/parity/regions.py (Debian: python3-torch, python3-scipy).
PyTorch has none of these losses, so they are written down here once more: class by class, with the pixels that count picked
out, and with scipy's distances. Gradients are PyTorch's."""
import sys

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

sys.dont_write_bytecode = True
from golden_io import save_tensors  # noqa: E402

SEED = 20250412
VOID = 255


def mean(values, classes, weight):
    """values: (class, loss) pairs."""
    share = [1.0 if weight is None else weight[k].item() for k in classes]
    return sum(w * v for w, v in zip(share, values)) / sum(share)


# --- regions: all pixels of the batch that count, as [pixels, K] ------------------------------------------------------
def flat(p, target):
    p, target = p.permute(0, 2, 3, 1).reshape(-1, p.shape[1]), target.reshape(-1)
    return p[target != VOID], target[target != VOID]


def by_class(loss_of):
    def loss(p, target, weight):
        p, target = flat(p, target)
        classes = [k for k in range(p.shape[1]) if (target == k).any()]
        return mean([loss_of(p[:, k], (target == k).double()) for k in classes], classes, weight)

    return loss


def dice(p, g):
    return 1 - (2 * (p * g).sum() + 1e-5) / (p.sum() + g.sum() + 1e-5)


def jaccard(p, g):
    union = (p + g - p * g).sum()
    return 1 - ((p * g).sum() + 1e-5) / (union + 1e-5)


def tversky(alpha, beta, gamma):
    def loss(p, g):
        tp, fp, fn = (p * g).sum(), (p * (1 - g)).sum(), ((1 - p) * g).sum()
        return (1 - (tp + 1e-5) / (tp + alpha * fp + beta * fn + 1e-5)) ** gamma

    return loss


def generalized_dice(p, target, weight):
    p, target = flat(p, target)
    above = below = 0
    for k in range(p.shape[1]):
        g = (target == k).double()
        if g.sum() > 0:
            w = (1 if weight is None else weight[k]) / g.sum() ** 2
            above, below = above + w * (p[:, k] * g).sum(), below + w * (p[:, k] + g).sum()
    return 1 - 2 * above / below


def lovasz(p, g):
    """Berman et al. 2018, equations 8 and 9, with the IoU loss of every set of wrong pixels counted anew."""
    m = (g - p).abs()
    order = np.argsort(-m.detach().numpy(), kind="stable")
    truth = g.numpy().astype(bool)

    def iou_loss(wrong):
        predicted = truth.copy()
        predicted[wrong] = ~predicted[wrong]
        return 1 - (truth & predicted).sum() / (truth | predicted).sum()

    return sum(m[i] * (iou_loss(order[: n + 1]) - iou_loss(order[:n])) for n, i in enumerate(order))


# --- distances: each class of each image by itself --------------------------------------------------------------------
def to_other_side(mask):
    """0 where the mask is all true or all false: there is no other side."""
    if mask.all() or not mask.any():
        return np.zeros(mask.shape)
    return distance_transform_edt(mask) + distance_transform_edt(~mask)


def by_image(loss_of):
    def loss(p, target, weight):
        values, classes = [], []
        for n in range(p.shape[0]):
            counts = target[n] != VOID
            for k in range(p.shape[1]):
                if (target[n] == k).any():
                    values.append(loss_of(p[n, k], (target[n] == k), counts))
                    classes.append(k)
        return mean(values, classes, weight)

    return loss


def hausdorff(alpha):
    def loss(p, g, counts):
        predicted = ((p > 0.5) & counts).numpy()
        field = torch.from_numpy(to_other_side(predicted) ** alpha + to_other_side(g.numpy()) ** alpha)
        return ((p - g.double()) ** 2 * field)[counts].mean()

    return loss


def boundary(p, g, counts):
    d = torch.from_numpy(to_other_side(g.numpy()))
    return (p * torch.where(g, -d, d))[counts].mean()


LOSSES = {
    "dice": by_class(dice),
    "generalized-dice": generalized_dice,
    "jaccard": by_class(jaccard),
    "tversky": by_class(tversky(0.3, 0.7, 1)),
    "focal tversky": by_class(tversky(0.3, 0.7, 0.75)),
    "lovasz-softmax": by_class(lovasz),
    "hausdorff": by_image(hausdorff(2)),
    "hausdorff alpha 1": by_image(hausdorff(1)),
    "boundary": by_image(boundary),
}


def losses(out):
    """Class 4 is absent, class 3 is in the first image only; void pixels in both."""
    blobs = torch.randn(2, 5, 4, 4)
    blobs[:, 4] = -9
    blobs[1, 3] = -9
    grow = torch.nn.Upsample(size=(11, 14), mode="bilinear")
    target = grow(blobs).argmax(1)
    logits = (2 * grow(blobs.clamp(min=-1)) + torch.randn(2, 5, 11, 14)).double()
    target[0, 3:6, 2:9] = VOID
    target[1, :, 0] = VOID
    weight = torch.tensor([0.1, 2.0, 1.0, 5.0, 3.0]).double()
    out.update(logits=logits, target=target, weight=weight)
    for name, loss in LOSSES.items():
        for kind, w in {"plain": None, "weighted": weight}.items():
            x = logits.clone().requires_grad_()
            value = loss(x.softmax(1), target, w)
            value.backward()
            out.update({f"{name} {kind}/loss": value, f"{name} {kind}/grad": x.grad})


def distances(out):
    y, x = np.mgrid[:33, :41]
    discs = ((y - 11) ** 2 + (x - 13) ** 2 < 70) | ((y - 24) ** 2 + (x - 31) ** 2 < 40)
    rng = np.random.default_rng(SEED)
    masks = {"discs": discs, "all but discs": ~discs, "one pixel": (y == 3) & (x == 39), "row": rng.random((1, 300)) < 0.05}
    masks.update({f"noise {share}": rng.random((33, 41)) < share for share in (0.003, 0.1, 0.5, 0.99)})
    for name, mask in masks.items():
        out.update({f"mask {name}": torch.from_numpy(mask), f"distance {name}": torch.from_numpy(to_other_side(mask))})


if __name__ == "__main__":
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    result = {}
    losses(result)
    distances(result)
    save_tensors("regions", result, "regions.py", SEED)
