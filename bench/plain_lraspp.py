"""The PyTorch script that a user would write: LR-ASPP on MobileNetV2 0.35, fine-tuned for a given time.

What `pixelwise train --model lraspp --encoder mobilenet_v2_0.35 --weights FILE --budget 10m` is compared with on the same machine:

    python3 bench/plain_lraspp.py --data VOC2012 --weights FILE --classes background,cat,dog,horse,sheep,cow,person --seconds 600

Data in VOC layout with a label_map.json. torch 1.13 and torchvision 0.14, two loader workers, crops padded with 0, whole images in
evaluation, one confusion matrix over all of them. Prints the mean IoU of each evaluation, with the time since the start.
"""
import argparse
import json
import os
import random
import struct
import time

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from torch import nn

VOID = 255


def read_safetensors(path):
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        data = file.read()
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        dtype = {"F32": torch.float32, "I64": torch.int64}[entry["dtype"]]
        tensors[name] = torch.frombuffer(bytearray(data[begin:end]), dtype=dtype).reshape(entry["shape"]).clone()
    return tensors


class Folder(torch.utils.data.Dataset):
    def __init__(self, root, split, classes, crop=None, scale=(0.5, 2.0)):
        self.root, self.crop, self.scale = root, crop, scale
        with open(f"{root}/ImageSets/Segmentation/{split}.txt") as file:
            self.ids = file.read().split()
        with open(f"{root}/label_map.json") as file:
            entries = json.load(file)
        entries = entries["classes"] if isinstance(entries, dict) else entries
        names = [entry["name"] if isinstance(entry, dict) else entry for entry in entries]
        self.classes = classes or names
        self.lookup = np.full(256, VOID, np.uint8)
        for k, name in enumerate(self.classes):
            self.lookup[names.index(name)] = k

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        name = self.ids[index]
        image = np.asarray(Image.open(f"{self.root}/JPEGImages/{name}.jpg").convert("RGB"))
        mask = self.lookup[np.asarray(Image.open(f"{self.root}/SegmentationClass/{name}.png"))]
        x = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 127.5 - 1
        y = torch.from_numpy(mask)
        if self.crop is None:
            return x, y.long()
        height, width = self.crop
        factor = random.uniform(*self.scale)
        size = [max(1, int(n * factor)) for n in y.shape]
        x = F.interpolate(x[None], size, mode="bilinear", align_corners=False)[0]
        y = F.interpolate(y[None, None], size, mode="nearest-exact")[0, 0]
        pad = [0, max(0, width - size[1]), 0, max(0, height - size[0])]
        x, y = F.pad(x, pad), F.pad(y, pad, value=VOID)
        top, left = random.randint(0, y.shape[0] - height), random.randint(0, y.shape[1] - width)
        x, y = x[:, top : top + height, left : left + width], y[top : top + height, left : left + width]
        if random.random() < 0.5:
            x, y = x.flip(-1), y.flip(-1)
        return x, y.long()


class LRASPP(nn.Module):
    def __init__(self, weights, classes):
        super().__init__()
        self.backbone = torchvision.models.mobilenet_v2(width_mult=0.35).features
        state = read_safetensors(weights)
        self.backbone.load_state_dict({name.removeprefix("features."): tensor for name, tensor in state.items()})
        for block in self.backbone[14:]:  # output stride 16: dilation instead of the last stride
            for module in block.modules():
                if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
                    if module.stride == (2, 2):
                        module.stride = (1, 1)
                    else:
                        module.dilation = module.padding = (2, 2)
        self.cbr = nn.Sequential(nn.Conv2d(1280, 128, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU())
        self.scale = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(1280, 128, 1, bias=False), nn.Sigmoid())
        self.low, self.high = nn.Conv2d(16, classes, 1), nn.Conv2d(128, classes, 1)

    def forward(self, image):
        x = image
        for k, block in enumerate(self.backbone):
            x = block(x)
            if k == 6:
                low = x
        x = self.cbr(x) * self.scale(x)
        x = F.interpolate(x, low.shape[-2:], mode="bilinear", align_corners=False)
        return F.interpolate(self.low(low) + self.high(x), image.shape[-2:], mode="bilinear", align_corners=False)


def mean_iou(model, dataset):
    model.eval()
    k = len(dataset.classes)
    counts = torch.zeros(k * k, dtype=torch.int64)
    with torch.no_grad():
        for x, y in dataset:
            predicted = model(x[None])[0].argmax(0)
            known = y != VOID
            counts += torch.bincount(y[known] * k + predicted[known], minlength=k * k)
    model.train()
    matrix = counts.reshape(k, k).double()
    hit = matrix.diag()
    return (hit / (matrix.sum(0) + matrix.sum(1) - hit)).nanmean().item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--classes", type=lambda text: text.split(","))
    parser.add_argument("--crop", type=lambda text: [int(n) for n in text.split(",")], default=[256, 256])
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--steps", type=int, help="train for so many instead")
    parser.add_argument("--evaluations", type=int, default=1, help="at equal shares of the run, the last after the last step")
    parser.add_argument("--until", type=float, help="stop at this mean IoU, in per cent")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(os.cpu_count())
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    start = time.time()
    train, val = (Folder(args.data, split, args.classes, crop) for split, crop in (("train", args.crop), ("val", None)))
    loader = torch.utils.data.DataLoader(
        train, 8, shuffle=True, num_workers=2, drop_last=True, persistent_workers=True,
        worker_init_fn=lambda worker: random.seed(args.seed * 100 + worker),
    )
    model = LRASPP(args.weights, len(train.classes))
    optimizer = torch.optim.AdamW(model.parameters(), args.learning_rate, weight_decay=1e-4)
    for x, _ in [val[0], val[1]]:  # how long the evaluation will take
        begin = time.time()
        with torch.no_grad():
            model.eval()(x[None])
        model.train()
    seconds = args.seconds - 1.3 * (time.time() - begin) * len(val)
    step, progress, done = 0, 0.0, 0

    def share_done():
        return step / args.steps if args.steps else (time.time() - start) / seconds

    while progress < 1:
        for x, y in loader:
            for group in optimizer.param_groups:
                group["lr"] = args.learning_rate * (1 - progress) ** 0.9
            loss = F.cross_entropy(model(x), y, ignore_index=VOID)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            progress = share_done()
            if step % 50 == 0:
                print(f"step {step}, loss {loss.item():.3f}, {time.time() - start:.0f} s", flush=True)
            if progress >= (done + 1) / args.evaluations:
                done += 1
                score = 100 * mean_iou(model, val)
                print(f"{step} steps, mean IoU {score:.1f} %, {time.time() - start:.0f} s in all", flush=True)
                if args.until and score >= args.until:
                    return
                progress = share_done()
            if progress >= 1:
                break


if __name__ == "__main__":
    main()
