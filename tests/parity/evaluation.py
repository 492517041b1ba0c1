"""Makes evaluation.safetensors and evaluation.json, by hand: /usr/bin/python3 tests/parity/evaluation.py (Debian:
python3-torch, python3-sklearn, python3-scipy). Label maps and what others say about them: torchvision's ConfusionMatrix (its
references/segmentation/utils.py), scikit-learn's scores, contours and distances by SciPy's erosion and distance transform (boundary
IoU as in Cheng et al.'s code, with SciPy's erosion in place of OpenCV's), calibration as in Guo et al.'s code, PyTorch's
bilinear enlargement."""
import sys

import numpy as np
import sklearn
import torch
import torch.nn.functional as F
from scipy.ndimage import binary_erosion, distance_transform_edt
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

sys.dont_write_bytecode = True
from golden_io import save_json, save_tensors  # noqa: E402

SEED = 20261128
VOID = 255
K = 6
STRIDES = (4, 16)


# --- label maps -----------------------------------------------------------------------------------------------------
def blobs(height, width, classes, cells=(5, 6)):
    """Truth of smooth blobs, a prediction with other contours and some noise, its confidence."""
    coarse = torch.randn(1, classes, *cells)
    grow = torch.nn.Upsample(size=(height, width), mode="bilinear")
    logits = grow(coarse) + 0.5 * grow(torch.randn(1, classes, 2 * cells[0], 2 * cells[1]))
    noise = (torch.rand(height, width) < 0.01) * torch.randint(0, classes, (height, width))
    confidence, prediction = (3 * logits[0]).softmax(0).max(0)
    return grow(coarse)[0].argmax(0), torch.where(noise > 0, noise, prediction), confidence


def formula(height, width):
    """Discs; evaluation.test.ts has the same."""
    y, x = np.mgrid[:height, :width]
    inside = lambda cy, cx, r2: (y - cy) ** 2 + (x - cx) ** 2 < r2
    truth, prediction = np.zeros((height, width), int), np.zeros((height, width), int)
    truth[inside(120, 150, 8100)] = 1
    truth[inside(250, 330, 6400)] = 2
    truth[inside(120, 150, 9000) & ~inside(120, 150, 8100)] = VOID
    prediction[inside(124, 153, 8400)] = 1
    prediction[inside(255, 300, 4900)] = 2
    prediction[inside(40, 460, 200)] = 3
    return torch.from_numpy(truth), torch.from_numpy(prediction), None


def cases():
    """75 x 100 has a diagonal of 125, so a band of 2.5 pixels; class 5 is nowhere but where it is named."""
    truth, prediction, confidence = blobs(90, 120, 5)
    truth[30:44, 20:90] = VOID
    truth[:, 0] = VOID
    yield "blobs", truth, prediction, confidence
    truth, prediction, confidence = blobs(75, 100, 4)
    truth[truth == 3] = 5  # the prediction never says 5, the truth never 3
    truth[60:66] = VOID
    yield "half", truth, prediction, confidence
    yield "wide", *blobs(20, 300, 3, (2, 9))
    truth, prediction, confidence = blobs(40, 40, 3)
    yield "one class", torch.full_like(truth, 2), prediction, confidence
    yield "void", torch.full_like(truth, VOID), prediction, confidence
    yield "formula", *formula(375, 500)


# --- what others say ------------------------------------------------------------------------------------------------
def confusion(truth, prediction, n):
    """torchvision's ConfusionMatrix.update() and compute()."""
    a, b = truth.flatten(), prediction.flatten()
    k = (a >= 0) & (a < n)
    inds = n * a[k].to(torch.int64) + b[k]
    mat = torch.bincount(inds, minlength=n**2).reshape(n, n)
    h = mat.double()
    acc_global = torch.diag(h).sum() / h.sum()
    acc = torch.diag(h) / h.sum(1)
    iu = torch.diag(h) / (h.sum(1) + h.sum(0) - torch.diag(h))
    return mat.tolist(), acc_global.item(), acc.tolist(), iu.tolist()


def scores(truth, prediction):
    t, p = truth[truth != VOID].numpy(), prediction[truth != VOID].numpy()
    of_class = dict(labels=range(K), average=None, zero_division=0)
    present = sorted(set(t) | set(p))  # sklearn's macro over labels that are there
    macro = dict(labels=present, average="macro", zero_division=0)
    return dict(
        iou=jaccard_score(t, p, **of_class).tolist(),
        precision=precision_score(t, p, **of_class).tolist(),
        recall=recall_score(t, p, **of_class).tolist(),
        f1=f1_score(t, p, **of_class).tolist(),
        meanIoU=float(jaccard_score(t, p, **macro)),
        meanIoUPresent=float(jaccard_score(t, p, labels=sorted(set(t)), average="macro", zero_division=0)),
        meanF1=float(f1_score(t, p, **macro)),
        frequencyWeightedIoU=float(jaccard_score(t, p, labels=range(K), average="weighted", zero_division=0)),
        microIoU=float(jaccard_score(t, p, labels=range(K), average="micro", zero_division=0)),
    )


def band(mask, ratio=0.02):
    """Cheng et al.'s mask_to_boundary()."""
    h, w = mask.shape
    dilation = int(round(ratio * np.sqrt(h**2 + w**2)))
    if dilation < 1:
        dilation = 1
    padded = np.pad(mask, 1)
    return mask & ~binary_erosion(padded, np.ones((3, 3)), iterations=dilation)[1:-1, 1:-1]


def boundaries(truth, prediction):
    t, p = truth.numpy(), np.where(truth.numpy() == VOID, VOID, prediction.numpy())
    tolerance = 0.0075 * np.sqrt(t.shape[0] ** 2 + t.shape[1] ** 2)
    result = []
    for k in range(K):
        g, m = t == k, p == k
        if not g.any() and not m.any():
            continue
        both, either = band(g) & band(m), band(g) | band(m)
        contour_g, contour_m = g & ~binary_erosion(g), m & ~binary_erosion(m)
        entry = {
            "class": k,
            "bandBoth": int(both.sum()),
            "bandEither": int(either.sum()),
            "predicted": int(contour_m.sum()),
            "predictedNear": 0,
            "truth": int(contour_g.sum()),
            "truthNear": 0,
        }
        distance = None
        if g.any() and m.any():
            to_truth = distance_transform_edt(~contour_g)[contour_m]
            to_prediction = distance_transform_edt(~contour_m)[contour_g]
            entry.update(predictedNear=int((to_truth <= tolerance).sum()), truthNear=int((to_prediction <= tolerance).sum()))
            distance = float(max(np.percentile(to_truth, 95), np.percentile(to_prediction, 95)))
        result.append(dict(counts=entry, hausdorff95=distance))
    return result


def calibration(truth, prediction, confidence, n_bins=15):
    """Guo et al.'s _ECELoss."""
    seen = truth != VOID
    confidences, accuracies = confidence[seen].double(), (prediction == truth)[seen]
    edges = torch.linspace(0, 1, n_bins + 1).double()
    ece, pixels = 0.0, []
    for low, high in zip(edges[:-1], edges[1:]):
        inside = confidences.gt(low) & confidences.le(high)
        pixels.append(int(inside.sum()))
        if pixels[-1] > 0:
            gap = (confidences[inside].mean() - accuracies[inside].double().mean()).abs()
            ece += gap.item() * pixels[-1] / len(confidences)
    return dict(ece=ece, pixels=pixels)


def ceilings(truth, stride):
    """Right pixels where each cell has its most frequent label; and labels by bilinear votes, void where two are as good."""
    height, width = truth.shape
    rows, columns = -(-height // stride), -(-width // stride)
    votes = torch.stack([(truth == k).double() for k in range(K)])
    votes = F.pad(votes, (0, columns * stride - width, 0, rows * stride - height))
    cells = F.avg_pool2d(votes[None], stride) * stride**2
    enlarged = F.interpolate(cells, scale_factor=stride, mode="bilinear", align_corners=False)[0, :, :height, :width]
    two = enlarged.topk(2, dim=0)
    labels = torch.where((two.values[0] - two.values[1] > 1e-9) & (truth != VOID), two.indices[0], VOID)
    return int(cells.max(1).values.sum()), labels


if __name__ == "__main__":
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    tensors, result = {}, {}
    for name, truth, prediction, confidence in cases():
        counts, acc_global, acc, iu = confusion(truth, prediction, K)
        clean = lambda values: [None if value != value else value for value in values]
        entry = dict(
            size=list(truth.shape),
            counts=counts,
            accuracy=clean([acc_global])[0],
            classAccuracy=clean(acc),
            classIoU=clean(iu),
            boundary=boundaries(truth, prediction),
            right={stride: ceilings(truth, stride)[0] for stride in STRIDES},
        )
        if name != "void":
            entry.update(sklearn=scores(truth, prediction))
        if name in ("half", "one class"):
            entry.update(calibration=calibration(truth, prediction, confidence))
            tensors[f"{name}/confidence"] = confidence.float()
        result[name] = entry
        if name != "formula":
            tensors[f"{name}/truth"] = truth.to(torch.uint8)
            tensors[f"{name}/prediction"] = prediction.to(torch.uint8)
        if name in ("blobs", "half"):
            for stride in STRIDES:
                tensors[f"{name}/bilinear {stride}"] = ceilings(truth, stride)[1].to(torch.uint8)
    save_tensors("evaluation", tensors, "evaluation.py", SEED)
    save_json("evaluation", dict(sklearn=sklearn.__version__, cases=result), "evaluation.py", SEED)
