"""Losses of plain PyTorch's training steps, from the weights and the batch in a safetensors file. See numerics.ts.

    python3 bench/numerics.py MODEL STEPS FILE
"""
import json
import sys

import torch
from plain_lraspp import read_safetensors
from plain_torch import models, stepper

name, steps, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
tensors = read_safetensors(path)
images, labels = tensors.pop("images"), tensors.pop("labels")
model = models[name]()
model.load_state_dict(tensors)
for module in model.modules():
    if isinstance(module, torch.nn.Dropout):
        module.p = 0.0
step = stepper(model, images, labels)
print(json.dumps([step() for _ in range(steps)]))
