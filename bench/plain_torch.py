"""The other side: the same work as a PyTorch user would write it. See run.ts. Argument: number of threads."""
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torchvision.models import resnet18
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.segmentation import DeepLabV3, deeplabv3_resnet50, lraspp_mobilenet_v3_large
from torchvision.models.segmentation.deeplabv3 import ASPP

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "parity"))
from unet import UNet  # the network of our parity tests

CLASSES = 21
CALLS = 20_000


def overhead():
    x = torch.randn(4)

    def repeat():
        for _ in range(CALLS):
            torch.relu(x)

    return repeat, 0


def unet(width):
    return UNet(CLASSES, width, depth=4, upsampling="transposed")


def deeplabv3_resnet18():
    """Output stride 16: torchvision has no dilation in ResNet-18, so its last stage is changed afterwards."""
    backbone = resnet18()
    for k, block in enumerate(backbone.layer4):
        for name in ("conv1", "conv2"):
            conv = getattr(block, name)
            is_strided = k == 0 and name == "conv1"
            conv.stride = (1, 1)
            if not is_strided:
                conv.dilation = conv.padding = (2, 2)
    backbone.layer4[0].downsample[0].stride = (1, 1)
    head = torch.nn.Sequential(
        ASPP(512, [6, 12, 18]),
        torch.nn.Conv2d(256, 256, 3, padding=1, bias=False),
        torch.nn.BatchNorm2d(256),
        torch.nn.ReLU(),
        torch.nn.Conv2d(256, CLASSES, 1),
    )
    return DeepLabV3(IntermediateLayerGetter(backbone, {"layer4": "out"}), head)


def torchvision(builder, **options):
    return builder(weights=None, weights_backbone=None, num_classes=CLASSES, **options)


def training(model, n, h, w):
    images, target = torch.randn(n, 3, h, w), torch.randint(0, CLASSES, (n, h, w))
    return stepper(model, images, target), sum(p.numel() for p in model.parameters())


def stepper(model, images, target):
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)

    def step():
        optimizer.zero_grad(set_to_none=True)
        output = model(images)
        if isinstance(output, torch.Tensor):
            output = {"out": output}
        loss = F.cross_entropy(output["out"], target, ignore_index=255)
        if "aux" in output:
            loss = loss + 0.4 * F.cross_entropy(output["aux"], target, ignore_index=255)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


IMAGES = 10  # in a row, as in workloads.ts


def inference(model, n, h, w):
    model.eval()
    images = torch.randn(n, 3, h, w)

    @torch.no_grad()
    def repeat():
        for _ in range(IMAGES):
            output = model(images)
            (output if isinstance(output, torch.Tensor) else output["out"]).argmax(1)

    return repeat, sum(p.numel() for p in model.parameters())


models = {
    "deeplabv3-r50": lambda: torchvision(deeplabv3_resnet50),
    "deeplabv3-r50-aux": lambda: torchvision(deeplabv3_resnet50, aux_loss=True),
    "unet64": lambda: unet(64),
    "unet32": lambda: unet(32),
    "deeplabv3-r18": deeplabv3_resnet18,
    "lraspp": lambda: torchvision(lraspp_mobilenet_v3_large),
}
workloads = {
    "deeplabv3-r50-train": lambda: training(models["deeplabv3-r50"](), 4, 128, 128),
    "deeplabv3-r50-aux-train": lambda: training(models["deeplabv3-r50-aux"](), 2, 256, 256),
    "unet64-train": lambda: training(models["unet64"](), 4, 128, 128),
    "unet32-train": lambda: training(models["unet32"](), 4, 128, 128),
    "deeplabv3-r18-train": lambda: training(models["deeplabv3-r18"](), 4, 192, 256),
    "lraspp-train": lambda: training(models["lraspp"](), 4, 192, 256),
    "deeplabv3-r50-infer": lambda: inference(models["deeplabv3-r50"](), 1, 256, 256),
    "lraspp-infer": lambda: inference(models["lraspp"](), 1, 256, 256),
    "unet64-infer": lambda: inference(models["unet64"](), 1, 256, 256),
    "unet32-infer": lambda: inference(models["unet32"](), 1, 256, 256),
    "op-overhead": overhead,
}


def answer_questions():
    torch.set_num_threads(int(sys.argv[1]))
    prepared = {}

    def prepare(name):
        if name not in prepared:
            prepared[name] = workloads[name]()
        return prepared[name]

    for line in sys.stdin:
        question, _, name = line.strip().partition(" ")
        if question == "version":
            print(torch.__version__, flush=True)
        elif question == "parameters":
            print(prepare(name)[1], flush=True)
        else:
            repeat, _ = prepare(question)
            start = time.perf_counter()
            repeat()
            print((time.perf_counter() - start) * 1000, flush=True)


if __name__ == "__main__":
    answer_questions()
