"""The other side of loading-while-training.ts: steps of a workload on a batch in memory ("alone"), and the same steps each
waiting for a batch that a DataLoader makes from files meanwhile ("files"), as they are asked for on standard input; answers with milliseconds a step.

Arguments: data set's root, threads, workers, steps, network, n, height, width.
"""
import sys
import time

import torch
from loader_torchvision import Voc
from plain_torch import CLASSES, models, stepper

root = sys.argv[1]
threads, workers, steps = map(int, sys.argv[2:5])
n, height, width = map(int, sys.argv[6:9])
torch.set_num_threads(threads)
model = models[sys.argv[5]]()
images, target = torch.randn(n, 3, height, width), torch.randint(0, CLASSES, (n, height, width))
loader = torch.utils.data.DataLoader(
    Voc(root, "train", (height, width)), n, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=True
)


def endless():
    while True:
        yield from loader


step = stepper(model, images, target)
batches = endless()
next(batches)  # the workers start
for line in sys.stdin:
    start = time.perf_counter()
    for _ in range(steps):
        if line.strip() == "files":
            next(batches)
        step()
    elapsed = time.perf_counter() - start
    if line.strip() == "files":
        time.sleep(0.5)  # until the worker has made what it makes ahead: it would slow what is measured next
    print(elapsed * 1000 / steps, flush=True)
