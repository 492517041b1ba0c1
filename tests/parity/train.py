"""A 50-step training run in plain PyTorch, by hand: /usr/bin/python3 tests/parity/train.py
training.test.ts makes the same run with ours, from the same weights and batches, and compares every loss.
Weights are those of golden/unet-transposed.safetensors (manual_seed and the changes of generate.py make them again)."""
import sys

import numpy as np
import torch
import torch.nn.functional as F

sys.dont_write_bytecode = True
from generate import SEED, lively_unet  # noqa: E402
from golden_io import save_json  # noqa: E402

STEPS, BATCH, SIZE, CLASSES = 50, 4, 32, 4
VOID = 255


def scramble(k):
    """A 32-bit hash that every language has: https://github.com/skeeto/hash-prospector, lowbias32."""
    k = np.asarray(k, dtype=np.uint32)
    k = (k ^ (k >> 16)) * np.uint32(0x7FEB352D)
    k = (k ^ (k >> 15)) * np.uint32(0x846CA68B)
    return k ^ (k >> 16)


def batch(step):
    """Tiles of 8 x 8 pixels, each of one class, in noise; a void line around each tile's top. [N, 3, H, W], [N, H, W]"""
    n, y, x = np.meshgrid(np.arange(BATCH), np.arange(SIZE), np.arange(SIZE), indexing="ij")
    label = scramble(((step * BATCH + n) * SIZE + y // 8) * SIZE + x // 8) % CLASSES
    pixel = (((step * BATCH + n)[:, None] * 3 + np.arange(3)[None, :, None, None]) * SIZE + y[:, None]) * SIZE + x[:, None]
    noise = scramble(pixel + 0x9E3779B9) / 2**32  # 0 to 1
    colour = scramble(label[:, None] * 3 + np.arange(3)[None, :, None, None]) / 2**32
    image = (colour + noise - 1) * 2
    target = np.where(y % 8 == 0, VOID, label)
    return torch.from_numpy(image.astype(np.float32)), torch.from_numpy(target.astype(np.int64))


def train(make_optimizer, lr):
    model = lively_unet("transposed").train()
    optimizer = make_optimizer(model.parameters())
    losses = []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / STEPS) ** 0.9
        image, target = batch(step)
        loss = F.cross_entropy(model(image), target, ignore_index=VOID)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    torch.set_num_threads(1)
    losses = {
        "sgd": train(lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, weight_decay=1e-4), 0.05),
        "adamw": train(lambda p: torch.optim.AdamW(p, 0.005, weight_decay=0.01), 0.005),
    }
    save_json("training", losses, "train.py", SEED)
