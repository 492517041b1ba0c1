"""Golden values for src/data/transforms/: aligned corners and rotation by PyTorch, photometric operations by torchvision.

Run: /usr/bin/python3 tests/data/transforms.py > tests/data/transforms.json, then biome format --write tests/data
(torch 1.13.0, torchvision 0.14.1, CPU; no randomness)
"""

import json
import math

import torch
import torch.nn.functional as F
import torchvision
import torchvision.transforms.functional as TF

HEIGHT, WIDTH = 7, 5
SIZES = [[7, 5], [11, 9], [3, 4], [13, 9], [1, 1], [20, 2], [1, 6]]
TURNS = [([7, 5], 10.0), ([11, 9], -37.5), ([4, 6], 123.0), ([16, 3], 250.25)]

pixels = [(i * 37 + i * i * 11) % 256 for i in range(HEIGHT * WIDTH * 3)]
labels = [(i * 7) % 5 if i % 6 else 255 for i in range(HEIGHT * WIDTH)]
image = torch.tensor(pixels).view(1, HEIGHT, WIDTH, 3).permute(0, 3, 1, 2).float() / 255
mask = torch.tensor(labels).view(1, 1, HEIGHT, WIDTH).float()
alpha = torch.linspace(0, 1, HEIGHT * WIDTH).view(1, 1, HEIGHT, WIDTH) ** 2


def rounded(tensor):
    return [round(v, 7) for v in tensor.flatten().tolist()]


def nearest_aligned(size):
    """TensorFlow's resize_nearest_neighbor(align_corners=True): index min(round(x * (n - 1) / (n' - 1)), n - 1), halves up.
    PyTorch has no such mode: its bilinear resizing of a ramp of coordinates gives the places, in float64."""
    columns = torch.arange(WIDTH, dtype=torch.float64).expand(HEIGHT, WIDTH)
    rows = torch.arange(HEIGHT, dtype=torch.float64)[:, None].expand(HEIGHT, WIDTH)
    places = F.interpolate(torch.stack([rows, columns])[None], size, mode="bilinear", align_corners=True)[0]
    row, column = torch.floor(places + 0.5 + 1e-12).long()  # 1e-12: float64's last bits, where it is half way
    return mask[0, 0][row, column].flatten().int().tolist()


def turned(size, degrees, align):
    """Resized and turned in one pass, as grid_sample does it; outside: NaN and 255."""
    height, width = size
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    h, w = (height - 1, width - 1) if align else (height, width)  # how long -1..1 is, in pixels of the resized picture
    theta = torch.tensor([[[cos, -sin * h / w, 0], [sin * w / h, cos, 0]]], dtype=torch.float64)
    grid = F.affine_grid(theta, [1, 1, height, width], align_corners=align)
    sample = lambda x, mode: F.grid_sample(x.double(), grid, mode=mode, padding_mode="border", align_corners=align)[0]
    x, y = grid[0, ..., 0] * w / 2, grid[0, ..., 1] * h / 2  # pixels from the middle
    outside = (x.abs() > width / 2) | (y.abs() > height / 2)
    return {
        "size": size,
        "degrees": degrees,
        "alignCorners": align,
        "image": rounded(sample(image, "bilinear").masked_fill(outside, -1)),  # -1: outside
        "alpha": rounded(sample(alpha, "bilinear").masked_fill(outside, 255)),
        "mask": sample(mask, "nearest").masked_fill(outside, 255).flatten().int().tolist(),
    }


# The direction is torchvision's: counter-clockwise. Its corners are zero, and so is what it mixes with at the edges.
own = torch.tensor(turned([HEIGHT, WIDTH], 10.0, False)["image"]).view(3, HEIGHT, WIDTH)
theirs = TF.rotate(image, 10.0, TF.InterpolationMode.BILINEAR)[0]
assert (own - theirs)[:, 2:-2, 1:-1].abs().max() < 1e-5

print(json.dumps({
    "generator": "tests/data/transforms.py",
    "torch": torch.__version__,
    "torchvision": torchvision.__version__,
    "height": HEIGHT,
    "width": WIDTH,
    "image": pixels,
    "mask": labels,
    "alpha": rounded(alpha),
    "aligned": [{
        "size": size,
        "image": rounded(F.interpolate(image, size, mode="bilinear", align_corners=True)),
        "alpha": rounded(F.interpolate(alpha, size, mode="bilinear", align_corners=True)),
        "mask": nearest_aligned(size),
    } for size in SIZES],
    "turned": [turned(size, degrees, align) for size, degrees in TURNS for align in (False, True)],
    "photometric": {
        "brightness": [{"by": f, "image": rounded(TF.adjust_brightness(image, f))} for f in (0.3, 1.7)],
        "contrast": [{"by": f, "image": rounded(TF.adjust_contrast(image, f))} for f in (0.4, 1.6)],
        "saturation": [{"by": f, "image": rounded(TF.adjust_saturation(image, f))} for f in (0.0, 0.5, 2.0)],
        "hue": [{"by": f, "image": rounded(TF.adjust_hue(image, f))} for f in (-0.5, -0.13, 0.3)],
        "grayscale": [{"by": 1, "image": rounded(TF.rgb_to_grayscale(image, 3))}],
        "blur": [{"by": s, "image": rounded(TF.gaussian_blur(image, 2 * math.ceil(3 * s) + 1, s))} for s in (0.3, 0.6)],
    },
}))
