"""Makes the golden values of this folder, by hand: /usr/bin/python3 tests/parity/generate.py (Debian: python3-torch,
python3-sklearn). CI only reads them. Each file says which script, seed and torch version it is from."""
import sys

import torch
import torch.nn.functional as F
from torch import nn

sys.dont_write_bytecode = True
from golden_io import save_json, save_tensors  # noqa: E402
from unet import UNet  # noqa: E402

SEED = 20240229


def fresh():
    torch.manual_seed(SEED)
    torch.set_num_threads(1)


# --- layers: output, and gradients of sum(output * cotangent) -------------------------------------------------------
# name: (layer, input's shape); layers.test.ts has the same table in our words.
LAYERS = {
    "conv": (lambda: nn.Conv2d(3, 4, 3), (2, 3, 9, 7)),
    "conv 1x1 without bias": (lambda: nn.Conv2d(3, 5, 1, bias=False), (2, 3, 5, 4)),
    "conv padding": (lambda: nn.Conv2d(3, 4, 3, padding=1), (2, 3, 8, 8)),
    "conv stride, odd size": (lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1), (1, 3, 9, 11)),
    "conv even kernel": (lambda: nn.Conv2d(2, 3, 2, stride=2), (1, 2, 7, 6)),
    "conv dilation": (lambda: nn.Conv2d(2, 3, 3, padding=2, dilation=2), (1, 2, 9, 7)),
    "conv groups": (lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2), (1, 4, 6, 5)),
    "conv depthwise": (lambda: nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4, bias=False), (1, 4, 7, 5)),
    "conv pairs": (lambda: nn.Conv2d(2, 3, (1, 5), stride=(1, 2), padding=(0, 2), dilation=(1, 1)), (1, 2, 4, 9)),
    "transposed 2x2": (lambda: nn.ConvTranspose2d(4, 3, 2, stride=2), (2, 4, 3, 5)),
    "transposed 3x3": (lambda: nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1), (1, 3, 4, 3)),
    "transposed without bias": (lambda: nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1, bias=False), (1, 3, 3, 5)),
    "group-norm": (lambda: nn.GroupNorm(2, 6), (2, 6, 3, 5)),
    "group-norm, one group, eps": (lambda: nn.GroupNorm(1, 4, eps=0.1), (2, 4, 3, 3)),
    "relu": (lambda: nn.ReLU(), (2, 3, 3, 3)),
    "identity": (lambda: nn.Identity(), (1, 2, 3, 3)),
    "max-pool": (lambda: nn.MaxPool2d(2), (2, 3, 7, 6)),
    "max-pool ceil": (lambda: nn.MaxPool2d(2, ceil_mode=True), (2, 3, 7, 5)),
    "max-pool overlapping": (lambda: nn.MaxPool2d(3, stride=2, padding=1), (1, 3, 8, 9)),
    "avg-pool": (lambda: nn.AvgPool2d(2), (1, 3, 5, 6)),
    "avg-pool counts padding": (lambda: nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True), (1, 2, 6, 7)),
    "avg-pool without padding": (lambda: nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False), (1, 2, 6, 7)),
    "adaptive avg-pool": (lambda: nn.AdaptiveAvgPool2d((3, 2)), (1, 3, 7, 5)),
    "adaptive avg-pool to one": (lambda: nn.AdaptiveAvgPool2d(1), (2, 3, 5, 4)),
    "upsample nearest": (lambda: nn.Upsample(scale_factor=2), (1, 2, 3, 4)),
    "upsample bilinear": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), (1, 2, 3, 4)),
    "upsample bilinear, aligned": (lambda: nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), (1, 2, 3, 4)),
    "upsample by 1.5": (lambda: nn.Upsample(scale_factor=1.5, mode="bilinear"), (1, 2, 3, 5)),
    "upsample nearest by 1.7": (lambda: nn.Upsample(scale_factor=1.7), (1, 2, 4, 5)),
    "resize to odd": (lambda: Resize((7, 10)), (1, 2, 4, 3)),
    "resize to odd, aligned": (lambda: Resize((7, 10), True), (1, 2, 4, 3)),
    "resize smaller": (lambda: Resize((3, 5)), (1, 2, 7, 8)),
    "resize smaller, aligned": (lambda: Resize((3, 5), True), (1, 2, 7, 8)),
    "resize nearest": (lambda: Resize((5, 7), None), (1, 2, 3, 4)),
    "sequential": (lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.GroupNorm(2, 4), nn.AvgPool2d(2)), (2, 2, 6, 6)),
}  # fmt: skip


class Resize(nn.Module):
    def __init__(self, size, aligned=False):
        super().__init__()
        mode = dict(mode="nearest") if aligned is None else dict(mode="bilinear", align_corners=aligned)
        self.options = dict(size=size, **mode)

    def forward(self, x):
        return F.interpolate(x, **self.options)


def vjp(prefix, module, x, out):
    """Forward and backward from a random cotangent; everything that goes in or comes out is noted."""
    x.requires_grad_()
    y = module(x)
    cotangent = torch.randn_like(y)
    module.zero_grad(set_to_none=True)  # in 1.13 the default would overwrite the gradients noted before
    y.backward(cotangent)
    out.update({f"{prefix}/input": x, f"{prefix}/output": y, f"{prefix}/cotangent": cotangent, f"{prefix}/grad input": x.grad})
    out.update({f"{prefix}/grad {name}": p.grad for name, p in module.named_parameters()})


def layers():
    fresh()
    out = {}
    for name, (make, shape) in LAYERS.items():
        layer = make()
        for p in layer.parameters():
            nn.init.normal_(p)
        out.update({f"{name}/state {key}": value for key, value in layer.state_dict().items()})
        vjp(name, layer, torch.randn(shape), out)
    save_tensors("layers", out, "generate.py", SEED)


def batch_norm():
    """Three training steps on inputs of different mean and scale, then eval; running statistics after each."""
    fresh()
    out = {}
    for name, options in {"default": {}, "momentum, eps": dict(momentum=0.3, eps=0.01)}.items():
        layer = nn.BatchNorm2d(3, **options)
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
        out.update({f"{name}/state {key}": value.clone() for key, value in layer.state_dict().items()})
        for step in range(4):
            layer.train(step < 3)
            vjp(f"{name}/{step}", layer, torch.randn(2, 3, 5, 4) * (step + 1) + step, out)
            out.update({f"{name}/{step}/{key}": value.clone() for key, value in layer.named_buffers()})
    save_tensors("batch-norm", out, "generate.py", SEED)


# --- initial values -------------------------------------------------------------------------------------------------
def init():
    """Each entry is drawn right after manual_seed(SEED)."""
    out = {}

    def draw(name, tensor, fill, **options):
        fresh()
        fill(tensor, **options)
        out[name] = tensor

    weight = lambda: torch.empty(6, 4, 3, 3)  # noqa: E731
    draw("uniform", weight(), nn.init.uniform_, a=-2, b=0.5)
    draw("normal", weight(), nn.init.normal_, mean=1, std=0.1)
    draw("normal, few", torch.empty(7), nn.init.normal_)
    draw("truncated normal", weight(), nn.init.trunc_normal_)
    draw("truncated normal, options", weight(), nn.init.trunc_normal_, mean=0.1, std=0.5, a=-0.3, b=1)
    draw("kaiming uniform", weight(), nn.init.kaiming_uniform_)
    draw("kaiming uniform, fan-out, relu", weight(), nn.init.kaiming_uniform_, mode="fan_out", nonlinearity="relu")
    draw("kaiming normal, fan-out, relu", weight(), nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu")
    draw("kaiming normal, slope", weight(), nn.init.kaiming_normal_, a=0.2)
    draw("xavier uniform", weight(), nn.init.xavier_uniform_)
    draw("xavier normal", weight(), nn.init.xavier_normal_)
    for name, make in {
        "conv": lambda: nn.Conv2d(4, 6, 3),
        "conv groups": lambda: nn.Conv2d(4, 6, (3, 1), groups=2),
        "transposed": lambda: nn.ConvTranspose2d(4, 6, 2),
        "batch-norm": lambda: nn.BatchNorm2d(3),
        "group-norm": lambda: nn.GroupNorm(2, 4),
    }.items():
        fresh()
        out.update({f"{name}/{key}": value for key, value in make().state_dict().items()})
    for name, layer in {"dropout": nn.Dropout(0.3), "dropout2d": nn.Dropout2d(0.3)}.items():
        fresh()
        out[name] = layer(torch.ones(2, 8, 3, 3))
    save_tensors("init", out, "generate.py", SEED)


# --- optimizers: 20 steps on given gradients ------------------------------------------------------------------------
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1),
    "sgd weight decay": lambda p: torch.optim.SGD(p, 0.1, weight_decay=0.05),
    "sgd momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    "sgd dampening": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, dampening=0.3, weight_decay=0.01),
    "sgd nesterov": lambda p: torch.optim.SGD(p, 0.1, momentum=0.8, nesterov=True, weight_decay=0.05),
    "adam": lambda p: torch.optim.Adam(p, 0.01),
    "adam weight decay": lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.1),
    "adam options": lambda p: torch.optim.Adam(p, 0.01, betas=(0.7, 0.9), eps=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01),
    "adamw options": lambda p: torch.optim.AdamW(p, 0.01, betas=(0.7, 0.9), eps=1e-3, weight_decay=0.3),
}


def optim():
    """Gradients of many sizes; from step 10 on the rate is a tenth; b has no gradient in steps 5, 6 and 7."""
    fresh()
    start = {"w": torch.randn(3, 4), "b": torch.randn(4)}
    scale = torch.logspace(-3, 1, 20)
    grads = {name: torch.stack([torch.randn_like(p) * s for s in scale]) for name, p in start.items()}
    out = {f"start/{name}": p for name, p in start.items()} | {f"gradients/{name}": g for name, g in grads.items()}
    for name, make in OPTIMIZERS.items():
        params = {key: nn.Parameter(p.clone()) for key, p in start.items()}
        optimizer = make(params.values())
        path = {key: [] for key in params}
        for step in range(20):
            if step == 10:
                optimizer.param_groups[0]["lr"] *= 0.1
            for key, p in params.items():
                p.grad = None if key == "b" and 5 <= step <= 7 else grads[key][step].clone()
            optimizer.step()
            for key, p in params.items():
                path[key].append(p.detach().clone())
        out.update({f"{name}/{key}": torch.stack(steps) for key, steps in path.items()})
    save_tensors("optim", out, "generate.py", SEED)


# --- cross-entropy --------------------------------------------------------------------------------------------------
def cross_entropy():
    fresh()
    logits = torch.randn(2, 5, 4, 3) * 3
    target = torch.randint(0, 5, (2, 4, 3))
    target[0, 1:3, 0:2] = 255
    target[1, 3] = 255
    weight = torch.tensor([0.1, 2.0, 1.0, 5.0, 0.0])
    out = {"logits": logits, "target": target, "weight": weight}
    for name, w in {"plain": None, "weighted": weight}.items():
        for reduction in ("mean", "sum", "none"):
            x = logits.clone().requires_grad_()
            loss = F.cross_entropy(x, target, weight=w, ignore_index=255, reduction=reduction)
            loss.sum().backward()
            out.update({f"{name} {reduction}/loss": loss, f"{name} {reduction}/grad": x.grad})
    for kind, w in {"plain": None, "weighted": weight}.items():  # PyTorch gives NaN to no pixel here
        for reduction in ("mean", "none"):
            x = logits.clone().requires_grad_()
            loss = F.cross_entropy(x, target, weight=w, ignore_index=255, reduction=reduction, label_smoothing=0.1)
            loss.sum().backward()
            out[f"{kind} smoothed {reduction}/loss"], out[f"{kind} smoothed {reduction}/grad"] = loss.detach(), x.grad
    # Two classes by softmax over (0, x) are one by sigmoid of x: focal loss as the paper writes it, for objects.
    x = (logits[:, :1] - logits[:, 1:2]).detach().requires_grad_()
    two = (target % 2).unsqueeze(1)
    right = torch.where(two == 1, torch.sigmoid(x), 1 - torch.sigmoid(x))  # p_t
    losses = F.binary_cross_entropy_with_logits(x, two.float(), reduction="none") * (1 - right) ** 2
    losses.sum().backward()
    out["focal/logits"], out["focal/target"] = torch.cat([torch.zeros_like(x), x], 1).detach(), two.squeeze(1)
    out["focal/loss"], out["focal/grad"] = losses.detach().squeeze(1), x.grad.squeeze(1)
    save_tensors("cross-entropy", out, "generate.py", SEED)


# --- UNet -----------------------------------------------------------------------------------------------------------
CASES = {"even": (True, (2, 3, 16, 24)), "odd": (True, (2, 3, 17, 21)), "eval": (False, (1, 3, 19, 26))}


def lively_unet(upsampling):
    """A narrow network; batch-norm's weights and statistics are not what they start with, so that all have a part."""
    fresh()
    model = UNet(num_classes=4, width=3, depth=3, upsampling=upsampling)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias, std=0.3)
            nn.init.normal_(m.running_mean, std=0.3)
            nn.init.uniform_(m.running_var, 0.5, 1.5)
    return model


def unet(upsampling):
    """For each case logits, all gradients, and the moved statistics."""
    model = lively_unet(upsampling)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    out = {f"state/{key}": value for key, value in state.items()}
    for name, (training, shape) in CASES.items():
        model.load_state_dict(state)
        model.train(training)
        vjp(name, model, torch.randn(shape), out)
        if training:
            out.update({f"{name}/{key}": value.clone() for key, value in model.named_buffers()})
    save_tensors(f"unet-{upsampling}", out, "generate.py", SEED)


# --- metrics --------------------------------------------------------------------------------------------------------
def metrics():
    """Class 3 is in neither truth nor prediction, class 4 only in the prediction, class 5 only in the truth."""
    import sklearn
    from sklearn.metrics import confusion_matrix, jaccard_score, precision_score, recall_score

    fresh()
    truth = torch.tensor([0, 0, 0, 0, 1, 1, 2, 5])[torch.randint(0, 8, (200,))]
    noise = torch.tensor([0, 1, 2, 4])[torch.randint(0, 4, (200,))]
    prediction = torch.where((torch.rand(200) < 0.6) & (truth != 5), truth, noise)
    void = torch.rand(200) < 0.1
    args = (truth[~void].numpy(), prediction[~void].numpy())
    options = dict(labels=range(6), average=None, zero_division=0)
    result = dict(
        sklearn=sklearn.__version__,
        truth=torch.where(void, 255, truth).tolist(),
        prediction=prediction.tolist(),
        counts=confusion_matrix(*args, labels=range(6)).tolist(),
        iou=jaccard_score(*args, **options).tolist(),
        precision=precision_score(*args, **options).tolist(),
        recall=recall_score(*args, **options).tolist(),
        pixelAccuracy=float((args[0] == args[1]).mean()),
    )
    save_json("metrics", result, "generate.py", SEED)


if __name__ == "__main__":
    layers()
    batch_norm()
    init()
    optim()
    cross_entropy()
    unet("transposed")
    unet("bilinear")
    metrics()
