"""Golden values for src/data/transforms.test.ts: how PyTorch resizes images (bilinear) and masks (nearest).

Run: python3 tests/data/interpolate.py > tests/data/interpolate.json, then biome format --write tests/data
(torch 1.13.0, CPU; no randomness)
"""

import json

import torch
import torch.nn.functional as F

HEIGHT, WIDTH = 7, 5
SIZES = [[7, 5], [11, 9], [3, 4], [14, 10], [1, 1], [20, 2]]  # same, up, down, exact double, one pixel, mixed

pixels = [(i * 37 + i * i * 11) % 256 for i in range(HEIGHT * WIDTH * 3)]
labels = [(i * 7) % 5 if i % 6 else 255 for i in range(HEIGHT * WIDTH)]
image = torch.tensor(pixels).view(1, HEIGHT, WIDTH, 3).permute(0, 3, 1, 2).float() / 255
mask = torch.tensor(labels).view(1, 1, HEIGHT, WIDTH).float()

print(json.dumps({
    "generator": "tests/data/interpolate.py",
    "torch": torch.__version__,
    "height": HEIGHT,
    "width": WIDTH,
    "image": pixels,
    "mask": labels,
    "resized": [{
        "size": size,
        "image": [round(v, 7) for v in F.interpolate(image, size, mode="bilinear", align_corners=False).flatten().tolist()],
        "mask": [int(v) for v in F.interpolate(mask, size, mode="nearest-exact").flatten().tolist()],
    } for size in SIZES],
}))
