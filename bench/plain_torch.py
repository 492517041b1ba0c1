"""The other side: the same work as a PyTorch user would write it. See run.ts. Argument: number of threads."""
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "parity"))
from unet import UNet  # the network of our parity tests

CALLS = 20_000


def overhead():
    x = torch.randn(4)

    def repeat():
        for _ in range(CALLS):
            torch.relu(x)

    return repeat


def unet_training(width):
    model = UNet(21, width, depth=4, upsampling="transposed")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    images, target = torch.randn(4, 3, 128, 128), torch.randint(0, 21, (4, 128, 128))

    def repeat():
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(images), target, ignore_index=255)
        loss.backward()
        optimizer.step()
        return loss.item()

    return repeat


def unet_inference(width):
    model = UNet(21, width, depth=4, upsampling="transposed").eval()
    image = torch.randn(1, 3, 256, 256)

    @torch.no_grad()
    def repeat():
        return model(image).argmax(1)

    return repeat


workloads = {
    "op-overhead": overhead,
    "unet32-train": lambda: unet_training(32),
    "unet64-train": lambda: unet_training(64),
    "unet32-infer": lambda: unet_inference(32),
    "unet64-infer": lambda: unet_inference(64),
}

torch.set_num_threads(int(sys.argv[1]))
prepared = {}
for line in sys.stdin:
    name = line.strip()
    if name == "version":
        print(torch.__version__, flush=True)
        continue
    if name not in prepared:
        prepared[name] = workloads[name]()
    start = time.perf_counter()
    prepared[name]()
    print((time.perf_counter() - start) * 1000, flush=True)
