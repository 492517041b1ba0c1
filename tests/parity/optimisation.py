"""Golden values of schedules, parameter groups and clipping from PyTorch: /usr/bin/python3 tests/parity/optimisation.py
schedules.test.ts and groups.test.ts make the same with ours."""
import sys

import torch
from torch import nn
from torch.optim import lr_scheduler

sys.dont_write_bytecode = True
from golden_io import save_json, save_tensors  # noqa: E402

SEED = 20240607

# --- schedules: the factor before each of T steps, and after the last ------------------------------------------------
T = 60
SCHEDULES = {
    "constant": lambda o: lr_scheduler.ConstantLR(o, factor=1, total_iters=0),
    "poly": lambda o: lr_scheduler.PolynomialLR(o, total_iters=T, power=0.9),
    "poly, power 2, 40 steps": lambda o: lr_scheduler.PolynomialLR(o, total_iters=40, power=2),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=T),
    "cosine, end": lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=T, eta_min=0.05),
    "step": lambda o: lr_scheduler.StepLR(o, step_size=20, gamma=0.1),
    "step, gamma": lambda o: lr_scheduler.StepLR(o, step_size=7, gamma=0.8),
    "multi-step": lambda o: lr_scheduler.MultiStepLR(o, milestones=[15, 40, 41], gamma=0.3),
    # torch's last value is that of step T - 1, and it rises until pct_start * total_steps - 1
    "one-cycle": lambda o: one_cycle(o, peak=18),
    "one-cycle, peak and end": lambda o: one_cycle(o, peak=30, end=0.01),
    "warm-restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=15),
    "warm-restarts, growth and end": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=8, T_mult=2, eta_min=0.1),
}


def one_cycle(optimizer, peak, end=4e-6):
    return lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=T + 1, pct_start=(peak + 1) / (T + 1), div_factor=25, final_div_factor=0.04 / end, cycle_momentum=False
    )  # fmt: skip


def schedules():
    out = {}
    for name, make in SCHEDULES.items():
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule = make(optimizer)
        rates = []
        for _ in range(T + 1):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if len(rates) <= T:
                schedule.step()
        out[name] = rates
    save_json("schedules", out, "optimisation.py", SEED)


# --- groups: 20 steps in float64 -------------------------------------------------------------------------------------
# DeepLab's table with m = 10: encoder weight, encoder bias, encoder norm, head weight, head bias.
SHAPES = {"backbone.w": (3, 4), "backbone.b": (4,), "backbone.n": (5,), "head.w": (2, 4), "head.b": (2,)}
MULTIPLIERS = {"backbone.w": 1, "backbone.b": 2, "backbone.n": 1, "head.w": 10, "head.b": 20}
DECAYED = {"backbone.w", "head.w"}
DECAY = 0.05
STEPS = 20


class Lion(torch.optim.Optimizer):
    """Algorithm 2 of https://arxiv.org/abs/2302.06675; PyTorch has none."""

    def __init__(self, params, lr, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                update = torch.sign(b1 * m + (1 - b1) * p.grad)
                p -= group["lr"] * (update + group["weight_decay"] * p)
                m.copy_(b2 * m + (1 - b2) * p.grad)


OPTIMIZERS = {
    "sgd": (lambda g, **o: torch.optim.SGD(g, lr=0.01, **o), False),
    "sgd momentum": (lambda g, **o: torch.optim.SGD(g, lr=0.01, momentum=0.9, **o), False),
    "sgd nesterov": (lambda g, **o: torch.optim.SGD(g, lr=0.01, momentum=0.9, nesterov=True, **o), False),
    "adam": (lambda g, **o: torch.optim.Adam(g, lr=0.01, **o), False),
    "adamw": (lambda g, **o: torch.optim.AdamW(g, lr=0.01, **o), True),
    "lion": (lambda g, **o: Lion(g, lr=0.01, **o), True),
}


def groups():
    torch.manual_seed(SEED)
    start = {name: torch.randn(shape, dtype=torch.float64) for name, shape in SHAPES.items()}
    scale = torch.logspace(-2, 1, STEPS, dtype=torch.float64)
    grads = {name: torch.stack([torch.randn_like(p) * s for s in scale]) for name, p in start.items()}
    out = {f"start/{name}": p for name, p in start.items()} | {f"gradients/{name}": g for name, g in grads.items()}

    def run(make, prepare):
        params = {name: nn.Parameter(p.clone()) for name, p in start.items()}
        optimizer = make(params)
        for step in range(STEPS):
            for name, p in params.items():
                p.grad = grads[name][step].clone()
            prepare(params)
            optimizer.step()
        return params

    def decay_of(name):
        return DECAY if name in DECAYED else 0.0

    for name, (make, decoupled) in OPTIMIZERS.items():
        # The rate form is PyTorch's own: a group for each parameter.
        by_rate = lambda params: make([dict(params=[p], lr=0.01 * MULTIPLIERS[n], weight_decay=decay_of(n)) for n, p in params.items()])  # noqa: E731, E501
        out.update({f"{name}/rate/{n}": p for n, p in run(by_rate, lambda params: None).items()})

        # The gradient form multiplies what the optimizer gets, L2 included where it is part of the gradient.
        def multiply(params, decoupled=decoupled):
            for n, p in params.items():
                with torch.no_grad():
                    p.grad = MULTIPLIERS[n] * (p.grad if decoupled else p.grad + decay_of(n) * p)

        by_gradient = lambda params: make([dict(params=[p], weight_decay=decay_of(n) if decoupled else 0.0) for n, p in params.items()])  # noqa: E731, E501
        out.update({f"{name}/gradient/{n}": p for n, p in run(by_gradient, multiply).items()})

        clips = {
            "clip norm": lambda params: nn.utils.clip_grad_norm_(params.values(), 1.5),
            "clip value": lambda params: nn.utils.clip_grad_value_(params.values(), 0.5),
        }
        for clip, prepare in clips.items():
            alike = lambda params: make(list(params.values()), weight_decay=DECAY)  # noqa: E731
            out.update({f"{name}/{clip}/{n}": p for n, p in run(alike, prepare).items()})
    save_tensors("parameter-groups", out, "optimisation.py", SEED)


if __name__ == "__main__":
    schedules()
    groups()
