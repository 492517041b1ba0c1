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

mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
mean_pixel = tuple(round(255 * m) for m in mean)


class Voc(torch.utils.data.Dataset):
    def __init__(self, root, split, crop, images=None, cached=False):
        self.root, self.crop = root, crop  # crop: (height, width)
        with open(f"{root}/ImageSets/Segmentation/{split}.txt") as file:
            self.ids = file.read().split()[:images]
        self.samples = [self.read(name) for name in self.ids] if cached else None

    def __len__(self):
        return len(self.ids)

    def read(self, name):
        image = Image.open(f"{self.root}/JPEGImages/{name}.jpg").convert("RGB")
        mask = Image.open(f"{self.root}/SegmentationClass/{name}.png")
        mask.load()
        return image, mask

    def __getitem__(self, index):
        image, mask = self.samples[index] if self.samples else self.read(self.ids[index])
        scale = random.uniform(0.5, 2)
        size = [int(image.height * scale), int(image.width * scale)]
        image = F.resize(image, size, InterpolationMode.BILINEAR)
        mask = F.resize(mask, size, InterpolationMode.NEAREST)
        height, width = self.crop
        padding = [0, 0, max(0, width - size[1]), max(0, height - size[0])]
        if any(padding):
            image = F.pad(image, padding, fill=mean_pixel)
            mask = F.pad(mask, padding, fill=255)
        top, left = random.randint(0, image.height - height), random.randint(0, image.width - width)
        image = F.crop(image, top, left, height, width)
        mask = F.crop(mask, top, left, height, width)
        if random.random() < 0.5:
            image, mask = F.hflip(image), F.hflip(mask)
        return F.normalize(F.to_tensor(image), mean, std), torch.as_tensor(np.array(mask), dtype=torch.int64)


def main():
    root, split = sys.argv[1:3]
    images, batch_size, workers, crop = map(int, sys.argv[3:7])
    dataset = Voc(root, split, (crop, crop), images, cached=sys.argv[7] == "memory")
    loader = torch.utils.data.DataLoader(dataset, batch_size, shuffle=True, num_workers=workers, persistent_workers=True)
    for _ in loader:  # the workers start, the files come into the system's memory
        pass
    start = time.perf_counter()
    count = sum(len(batch[0]) for batch in loader)
    print(count / (time.perf_counter() - start))


if __name__ == "__main__":
    main()
