"""Makes golden/weights.json: what torchvision says of its published weights, to compare src/weights/registry.ts with.
/usr/bin/python3 tests/parity/weights.py (Debian: python3-torchvision 0.14). CI only reads it. Nothing in it is random. File
sizes are not in 0.14; those of registry.ts are `_file_size` of 0.15+."""
import json
import os
import sys

# The file torchvision.py beside this one is not the package.
FOLDER = os.path.dirname(os.path.abspath(__file__))
sys.path = [path for path in sys.path if os.path.abspath(path or ".") != FOLDER]

import torchvision  # noqa: E402
from torchvision.models import segmentation  # noqa: E402
from torchvision.models._api import _get_enum_from_fn  # noqa: E402

CLASSIFICATION = ["resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2", "mobilenet_v3_small",
                  "mobilenet_v3_large", "vgg16_bn", "squeezenet1_1"]  # fmt: skip
SEGMENTATION = ["deeplabv3_resnet50", "deeplabv3_resnet101", "deeplabv3_mobilenet_v3_large", "fcn_resnet50",
                "fcn_resnet101", "lraspp_mobilenet_v3_large"]  # fmt: skip


def describe(model, weights):
    transform = weights.transforms()
    [(data, metrics)] = weights.meta["_metrics"].items()
    categories = weights.meta["categories"]
    assert transform.interpolation.value == "bilinear"
    return {
        "name": f"{model}.{weights.name.lower()}",
        "url": weights.url,
        "parameters": weights.meta["num_params"],
        "resize": transform.resize_size[0],
        "crop": transform.crop_size[0] if hasattr(transform, "crop_size") else None,
        "mean": " ".join(map(str, transform.mean)),
        "std": " ".join(map(str, transform.std)),
        "classes": len(categories),
        "classNames": " ".join(categories) if len(categories) < 1000 else None,
        "percent": metrics.get("acc@1", metrics.get("miou")),
        "on": data,
        "default": weights == type(weights).DEFAULT,
    }


models = [(torchvision.models, CLASSIFICATION), (segmentation, SEGMENTATION)]
weights = [
    describe(name, each) for module, names in models for name in names for each in _get_enum_from_fn(getattr(module, name))
]
origin = {"generator": "tests/parity/weights.py", "torchvision": torchvision.__version__}
with open(os.path.join(FOLDER, "golden", "weights.json"), "w") as file:
    json.dump({"origin": origin, "weights": weights}, file, indent=1)
    file.write("\n")
