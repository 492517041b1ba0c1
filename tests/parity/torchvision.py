"""Makes golden/torchvision.{json,safetensors}: what torchvision's models compute, to compare ours with.
/usr/bin/python3 tests/parity/torchvision.py (Debian: python3-torchvision). CI only reads them.

No weights are committed: fill() draws every entry of the state dict, in its order, from libtorch's generator, whose numbers
are the same from TypeScript (init.test.ts shows it). torchvision.test.ts has the same fill() in our words.
"""
import hashlib
import os
import sys

# This file is not the package that it imports.
sys.path = [path for path in sys.path if os.path.abspath(path or ".") != os.path.dirname(os.path.abspath(__file__))]

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
import torchvision  # noqa: E402
from torch import nn  # noqa: E402
from torchvision.models import segmentation  # noqa: E402

sys.path.append(os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
from golden_io import save_json, save_tensors  # noqa: E402

SEED = 20240301
CLASSES = 3

# name: what multiplies batch-norm's weights, so that signals neither vanish nor explode through its depth
CLASSIFIERS = {
    "resnet18": 0.6, "resnet34": 0.6, "resnet50": 0.6, "resnet101": 0.6, "mobilenet_v2": 0.8, "mobilenet_v2_0.35": 0.8,
    "mobilenet_v3_small": 1, "mobilenet_v3_large": 0.7, "vgg16_bn": 1, "squeezenet1_1": 1,
}  # fmt: skip
SEGMENTATION = {
    "fcn_resnet50": 0.6, "fcn_resnet101": 0.6, "deeplabv3_resnet50": 0.6, "deeplabv3_resnet101": 0.6,
    "deeplabv3_mobilenet_v3_large": 0.7, "lraspp_mobilenet_v3_large": 0.7,
}  # fmt: skip


def fill(model, gain):
    torch.manual_seed(SEED)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if tensor.dtype == torch.int64:
                tensor.zero_()
            elif tensor.dim() > 1:
                tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5)
            elif key.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif key.endswith("weight"):
                tensor.uniform_(0.5 * gain, 1.5 * gain)
            else:
                tensor.normal_(0, 0.1)


def keys(model):
    lines = [f"{key} {list(tensor.shape)}\n" for key, tensor in model.state_dict().items()]
    return {"count": len(lines), "sha256": hashlib.sha256("".join(lines).encode()).hexdigest()}


def image(n, h, w, channels=3):
    torch.manual_seed(n * h * w)
    return torch.randn(n, channels, h, w)


def without_dropout(model):
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0
    return model


def outputs(result):
    return result if isinstance(result, dict) else {"out": result}


def cotangent(value):
    return torch.cos(torch.arange(value.numel(), dtype=torch.float64) * 0.7).view(value.shape)


def is_watched(key, tensor):
    """Small parameters at the network's ends and its norms: a wrong operator anywhere before or behind shows there."""
    return tensor.dim() == 1 and tensor.numel() <= 64 or tensor.numel() <= 600 and tensor.dim() > 1


def record(golden, name, model, sizes, train_shape):
    """Eval mode at several sizes; then a training step's outputs, some gradients and what it did to some statistics. The
    step is computed in float64: over the few pixels of its last maps batch-norm would turn rounding into whole per cents.
    VGG has no such depth, but 138 million parameters."""
    fill(without_dropout(model), SPEC[name]["gain"])
    model.eval()
    for h, w in sizes:
        with torch.no_grad():
            for key, value in outputs(model(image(1, h, w))).items():
                golden[f"{name}/eval {h} {w}/{key}"] = value.clone()
    dtype = torch.float32 if name.startswith("vgg") else torch.float64
    model.train().to(dtype)
    result = outputs(model(image(*train_shape).to(dtype)))
    loss = sum((value * cotangent(value)).mean() for value in result.values())
    loss.backward()
    for key, value in result.items():
        golden[f"{name}/train/{key}"] = value.detach().float()
    watched = [(key, p) for key, p in model.named_parameters() if is_watched(key, p)]
    zero = 1e-9 if dtype == torch.float64 else 1e-5  # what rounding leaves of a gradient that a later batch-norm makes 0
    watched = [(key, p) for key, p in watched if p.grad.abs().max() > zero]
    for key, parameter in watched[:3] + watched[len(watched) // 2 :][:2] + watched[-3:]:
        golden[f"{name}/grad {key}"] = parameter.grad.float()
    statistics = [(key, b) for key, b in model.named_buffers() if b.dtype != torch.int64 and b.numel() <= 256]
    for key, buffer in statistics[:2] + statistics[-2:]:
        golden[f"{name}/buffer {key}"] = buffer.float()


class SameConv2d(nn.Conv2d):
    """TensorFlow's padding "SAME": ceil(size / stride) outputs, and the odd pixel of padding at the bottom and the right."""

    def forward(self, x):
        pads = []
        for size, kernel, stride, dilation in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride, self.dilation):
            total = max(0, (-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def with_tensorflow_padding(model):
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.__class__ = SameConv2d
    return model


def classifier(name):
    base, width = ("mobilenet_v2", {"width_mult": 0.35}) if name.startswith("mobilenet_v2_0.35") else (name, {})
    return getattr(torchvision.models, base)(num_classes=CLASSES, **width)


torch.set_num_threads(1)
SPEC, golden = {}, {}

for name, gain in CLASSIFIERS.items():
    model = classifier(name)
    SPEC[name] = {"kind": "classifier", "gain": gain, "keys": keys(model)}
    record(golden, name, model, [(33, 47), (64, 49)], (2, 65, 70))
    del model

for name, gain in SEGMENTATION.items():
    aux = {} if name.startswith("lraspp") else {"aux_loss": True}
    create = lambda **aux: getattr(segmentation, name)(num_classes=CLASSES, weights_backbone=None, **aux)  # noqa: E731
    SPEC[name] = {"kind": "segmentation", "gain": gain, "keys": keys(create())}
    model = create(**aux)
    if aux:
        SPEC[name]["auxKeys"] = keys(model)
    sizes = [(33, 47), (17, 23)] if "101" not in name else [(17, 23)]
    record(golden, name, model, sizes, (2, 17, 23))
    del model

name = "mobilenet_v2_0.35 tensorflow"
SPEC[name] = {"kind": "classifier", "gain": 0.8, "keys": keys(classifier(name))}
record(golden, name, with_tensorflow_padding(classifier(name)), [(33, 47), (64, 48), (2, 3)], (2, 50, 65))

# The models above see maps so small that of ASPP's 3x3 convolutions (rates 12, 24, 36) only the middle tap is inside.
model = segmentation.deeplabv3.DeepLabHead(8, CLASSES).eval()
fill(model, 1)
with torch.no_grad():
    golden["DeepLabHead"] = model(image(1, 40, 40, channels=8))

save_tensors("torchvision", golden, "torchvision.py", SEED)
save_json("torchvision", {"seed": SEED, "classes": CLASSES, "torchvision": torchvision.__version__, "models": SPEC},
          "torchvision.py", SEED)  # fmt: skip
for key, value in golden.items():
    if "/train" in key or "/eval" in key:
        print(f"{key:60} {float(value.detach().abs().max()):.3g} {float(value.detach().std()):.3g}")
print(f"{sum(v.numel() for v in golden.values()) * 4 / 1e3:.0f} kB")
