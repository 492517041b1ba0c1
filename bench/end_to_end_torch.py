"""The other side of from-files.ts: the same as a user of torchvision would write it.

Arguments: threads, data set's root, split, images, model. Reads the task from standard input.
"""
import json
import os
import random
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
import torchvision.transforms.functional as T
from PIL import Image
from torchvision.transforms import InterpolationMode

threads, root, split, images, name = sys.argv[1:6]
torch.set_num_threads(int(threads))
CROP, BATCH, WORKERS, VOID = 256, 4, os.cpu_count(), 255
mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
with open(f"{root}/label_map.json") as file:
    entries = json.load(file)
CLASSES = len(entries["classes"] if isinstance(entries, dict) else entries)


class Voc(torch.utils.data.Dataset):
    def __init__(self, split, crops, count=None):
        with open(f"{root}/ImageSets/Segmentation/{split}.txt") as file:
            self.ids = file.read().split()[:count]
        self.crops = crops

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        image = Image.open(f"{root}/JPEGImages/{self.ids[index]}.jpg").convert("RGB")
        mask = Image.open(f"{root}/SegmentationClass/{self.ids[index]}.png")
        if self.crops:
            scale = random.uniform(0.5, 2)
            size = [int(image.height * scale), int(image.width * scale)]
            image = T.resize(image, size, InterpolationMode.BILINEAR)
            mask = T.resize(mask, size, InterpolationMode.NEAREST)
            padding = [0, 0, max(0, CROP - size[1]), max(0, CROP - size[0])]
            image, mask = T.pad(image, padding), T.pad(mask, padding, fill=VOID)
            top, left = random.randint(0, image.height - CROP), random.randint(0, image.width - CROP)
            image, mask = T.crop(image, top, left, CROP, CROP), T.crop(mask, top, left, CROP, CROP)
            if random.random() < 0.5:
                image, mask = T.hflip(image), T.hflip(mask)
        return T.normalize(T.to_tensor(image), mean, std), torch.as_tensor(np.array(mask), dtype=torch.int64)


def create():
    return getattr(torchvision.models.segmentation, name)(weights=None, weights_backbone=None, num_classes=CLASSES)


def evaluate():
    dataset = Voc(split, crops=False, count=int(images))
    model = create().eval()
    start = time.perf_counter()
    counts = torch.zeros(CLASSES * CLASSES, dtype=torch.int64)
    with torch.no_grad():
        for image, mask in torch.utils.data.DataLoader(dataset, batch_size=1, num_workers=WORKERS):
            labels = model(image)["out"].argmax(1)
            known = mask != VOID
            counts += torch.bincount(mask[known] * CLASSES + labels[known], minlength=CLASSES * CLASSES)
    matrix = counts.view(CLASSES, CLASSES).double()
    hits = matrix.diag()
    (hits / (matrix.sum(0) + matrix.sum(1) - hits)).nanmean().item()
    print(time.perf_counter() - start, flush=True)


def first_step():
    loader = torch.utils.data.DataLoader(Voc("train", crops=True), BATCH, shuffle=True, num_workers=WORKERS, drop_last=True)
    model = create().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    image, mask = next(iter(loader))
    F.cross_entropy(model(image)["out"], mask, ignore_index=VOID).backward()
    optimizer.step()
    print(1, flush=True)


if __name__ == "__main__":
    for line in sys.stdin:
        evaluate() if line.strip() == "evaluate" else first_step()
