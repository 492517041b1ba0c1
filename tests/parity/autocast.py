"""Makes autocast.safetensors, by hand: /usr/bin/python3 tests/parity/autocast.py (Debian: python3-torch).
A small UNet under PyTorch's autocast in bfloat16, training: its logits, and its gradients for a given cotangent."""
import sys

import torch

sys.dont_write_bytecode = True
from golden_io import save_tensors  # noqa: E402
from unet import UNet  # noqa: E402

SEED = 20261128

torch.manual_seed(SEED)
model = UNet(num_classes=4, width=4, depth=2, upsampling="transposed")
tensors = {f"state/{name}": value.clone() for name, value in model.state_dict().items()}
image = torch.randn(2, 3, 16, 20)
with torch.autocast("cpu", dtype=torch.bfloat16):
    logits = model(image)
logits = logits.float()
cotangent = torch.randn_like(logits)
logits.backward(cotangent)
tensors |= {"input": image, "output": logits.detach(), "cotangent": cotangent}
tensors |= {f"grad {name}": parameter.grad for name, parameter in model.named_parameters()}
tensors |= {name: buffer for name, buffer in model.named_buffers() if "running" in name}
save_tensors("autocast", tensors, "autocast.py", SEED)
