"""Golden values of inference, in PyTorch: /usr/bin/python3 tests/parity/inference.py.

Averages of scales and mirrored views are made of torch.nn.functional.interpolate on whole images, in the order of
predict_labels_multi_scale in TensorFlow's DeepLab (research/deeplab/model.py). Windows are added up pixel by pixel in plain loops:
for every pixel of the image each window that sees it is asked, weighed by a Gaussian of an eighth of the window (nnU-Net's).
"""
import math
import sys

import torch
import torch.nn.functional as F
from torch import nn

sys.dont_write_bytecode = True
from golden_io import save_tensors  # noqa: E402

SEED = 20240229
CLASSES = 4
STRIDE = 4


class Net(nn.Module):
    """Logits at stride 4; TinyNet in inference.test.ts."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.second = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.head = nn.Conv2d(8, CLASSES, 1)

    def forward(self, x):
        return self.head(self.second(self.first(x).relu()).relu())


def side(length, scale, aligned):
    return math.floor((length - 1) * scale + 1) if aligned else math.floor(length * scale + 0.5)


def pad(x, aligned):
    h, w = x.shape[-2:]
    return F.pad(x, (0, -(w - 1) % STRIDE, 0, -(h - 1) % STRIDE)) if aligned else x


def resize(x, size, aligned):
    return F.interpolate(x, size=size, mode="bilinear", align_corners=aligned)


def average(net, image, scales, flip, aligned=False):
    """Mean of the softmax of whole views. Aligned corners want logits at every 4th pixel of what was seen, so it is padded."""
    size = image.shape[-2:]
    views = []
    for scale in scales:
        scaled = [side(length, scale, aligned) for length in size]
        view = resize(image, scaled, aligned)
        for mirrored in [False, True] if flip else [False]:
            logits = net(pad(view.flip(3) if mirrored else view, aligned))
            if aligned:  # to what was seen, and without the padding: linear between its pixels, so that one step more changes nothing
                padded = [STRIDE * (length - 1) + 1 for length in logits.shape[-2:]]
                logits = resize(logits, padded, True)[:, :, : scaled[0], : scaled[1]]
            logits = resize(logits, size, aligned)
            views.append((logits.flip(3) if mirrored else logits).softmax(1))
    return torch.stack(views).mean(0)


def positions(length, scaled):
    return [min(scaled - 1.0, max(0.0, (i + 0.5) * scaled / length - 0.5)) for i in range(length)]


def starts(scaled, window, step):
    gaps = math.ceil((scaled - window) / step)
    return [math.floor(k * (scaled - window) / gaps + 0.5) for k in range(gaps + 1)] if gaps else [0]


def between(logits, y, x):
    """[K] at a place between pixels, in float64."""
    h, w = logits.shape[-2:]
    y, x = min(h - 1.0, max(0.0, y)), min(w - 1.0, max(0.0, x))
    y0, x0 = int(y), int(x)
    y1, x1 = min(h - 1, y0 + 1), min(w - 1, x0 + 1)
    top = logits[:, y0, x0] * (1 - (x - x0)) + logits[:, y0, x1] * (x - x0)
    bottom = logits[:, y1, x0] * (1 - (x - x0)) + logits[:, y1, x1] * (x - x0)
    return top * (1 - (y - y0)) + bottom * (y - y0)


def windowed(net, image, scale, window, step):
    """Of one view through windows [height, width], whose starts are at most `step` apart."""
    h, w = image.shape[-2:]
    size = side(h, scale, False), side(w, scale, False)
    scaled = resize(image, size, False)
    ys, xs = positions(h, size[0]), positions(w, size[1])
    total, weights = torch.zeros(CLASSES, h, w).double(), torch.zeros(h, w).double()
    for top in starts(size[0], window[0], step[0]):
        for left in starts(size[1], window[1], step[1]):
            logits = net(scaled[:, :, top : top + window[0], left : left + window[1]])[0].double()
            for i, y in enumerate(ys):
                for j, x in enumerate(xs):
                    v, u = y - top, x - left  # in the window
                    if not (0 <= v <= window[0] - 1 and 0 <= u <= window[1] - 1):
                        continue
                    dy, dx = (v - (window[0] - 1) / 2) / (window[0] / 8), (u - (window[1] - 1) / 2) / (window[1] / 8)
                    weight = math.exp(-(dy * dy + dx * dx) / 2)
                    at = [(q + 0.5) * n / s - 0.5 for q, n, s in ((v, logits.shape[1], window[0]), (u, logits.shape[2], window[1]))]
                    total[:, i, j] += weight * between(logits, *at).softmax(0)
                    weights[i, j] += weight
    return (total / weights).float()[None]


if __name__ == "__main__":
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    net = Net().eval()
    for parameter in net.parameters():
        parameter.data *= 2  # so that probabilities are not all alike
    image = F.interpolate(torch.randn(1, 3, 7, 8), size=(27, 34), mode="bilinear") * 2 + torch.randn(1, 3, 27, 34) / 2
    with torch.no_grad():
        out = {f"state/{key}": value for key, value in net.state_dict().items()}
        out["image"] = image
        out["plain"] = average(net, image, [1], False)
        out["flip"] = average(net, image, [1], True)
        out["scales"] = average(net, image, [0.5, 0.75, 1, 1.25], False)
        out["scales and flip"] = average(net, image, [0.5, 0.75, 1, 1.25], True)
        out["aligned scales and flip"] = average(net, image, [0.5, 1, 1.25], True, aligned=True)
        out["windows"] = windowed(net, image, 1, (20, 24), (10, 12))
        out["windows of scale 0.75"] = windowed(net, image, 0.75, (16, 19), (8, 9))
        out["windows of scale 1.5"] = windowed(net, image, 1.5, (32, 30), (24, 22))
    save_tensors("inference", out, "inference.py", SEED)
