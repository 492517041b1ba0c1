"""The other side of from-files.ts: the same crops as a user of torchvision would make them. Prints images per second.

Arguments: data set's root, split, images, batch size, workers, crop, and "files" or "memory" (decoded before, in memory).
"""
import random
import sys
import time

import numpy as np
import torch
import torchvision.transforms.functional as F
from PIL import Image
from torchvision.transforms import InterpolationMode

root, split = sys.argv[1:3]
images, batch_size, workers, crop = map(int, sys.argv[3:7])
mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
mean_pixel = tuple(round(255 * m) for m in mean)


class Voc(torch.utils.data.Dataset):
    def __init__(self, cached):
        with open(f"{root}/ImageSets/Segmentation/{split}.txt") as file:
            self.ids = file.read().split()[:images]
        self.samples = [self.read(name) for name in self.ids] if cached else None

    def __len__(self):
        return len(self.ids)

    def read(self, name):
        image = Image.open(f"{root}/JPEGImages/{name}.jpg").convert("RGB")
        mask = Image.open(f"{root}/SegmentationClass/{name}.png")
        mask.load()
        return image, mask

    def __getitem__(self, index):
        image, mask = self.samples[index] if self.samples else self.read(self.ids[index])
        scale = random.uniform(0.5, 2)
        size = [int(image.height * scale), int(image.width * scale)]
        image = F.resize(image, size, InterpolationMode.BILINEAR)
        mask = F.resize(mask, size, InterpolationMode.NEAREST)
        padding = [0, 0, max(0, crop - size[1]), max(0, crop - size[0])]
        if any(padding):
            image = F.pad(image, padding, fill=mean_pixel)
            mask = F.pad(mask, padding, fill=255)
        top, left = random.randint(0, image.height - crop), random.randint(0, image.width - crop)
        image = F.crop(image, top, left, crop, crop)
        mask = F.crop(mask, top, left, crop, crop)
        if random.random() < 0.5:
            image, mask = F.hflip(image), F.hflip(mask)
        return F.normalize(F.to_tensor(image), mean, std), torch.as_tensor(np.array(mask), dtype=torch.int64)


loader = torch.utils.data.DataLoader(
    Voc(cached=sys.argv[7] == "memory"), batch_size, shuffle=True, num_workers=workers, persistent_workers=True
)
for _ in loader:  # the workers start, the files come into the system's memory
    pass
start = time.perf_counter()
count = sum(len(batch[0]) for batch in loader)
print(count / (time.perf_counter() - start))
