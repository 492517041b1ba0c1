"""Makes the golden checkpoints golden/*.pth, and golden/pth.json with what torch.load finds in them, by hand:
/usr/bin/python3 tests/parity/pth.py (Debian: python3-torch). CI only reads them. The old formats' bytes differ from run
to run, because torch writes addresses of memory into them; the values do not."""
import argparse
import io
import os
import pickle
import struct
import sys
from collections import OrderedDict

import torch
from torch import nn

sys.dont_write_bytecode = True
from golden_io import FOLDER, save_json  # noqa: E402

SEED = 20240229
torch.manual_seed(SEED)

NAMES = {
    torch.float32: "float32", torch.float64: "float64", torch.float16: "float16", torch.bfloat16: "bfloat16",
    torch.int64: "int64", torch.int32: "int32", torch.int16: "int16", torch.int8: "int8", torch.uint8: "uint8",
    torch.bool: "bool",
}  # fmt: skip
OLD = {"_use_new_zipfile_serialization": False}


def net():
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))


def every_dtype():
    x = torch.arange(-2, 3)
    return OrderedDict((name, x.to(dtype) + (0.5 if "float" in name else 0)) for dtype, name in NAMES.items() if name != "bool") | {
        "bool": x > 0, "scalar": torch.tensor(1.5), "empty": torch.zeros(2, 0, 3), "ünï.__proto__": torch.tensor([7]),
    }  # fmt: skip


def views():
    base = torch.arange(24.0)
    x = base.view(2, 3, 4)
    return {
        "whole": x, "transposed": x.transpose(0, 2), "row": x[1, 2], "every second": base[3::2], "column": x[:, :, 1:2],
        "expanded": base[5:7].view(2, 1).expand(2, 3), "diagonal": x[0].diagonal(), "overlapping": base.as_strided((3, 4), (2, 1), 1),
        "empty at the end": base[24:], "one": base[23], "channels_last": torch.randn(2, 3, 2, 2).contiguous(memory_format=torch.channels_last),
    }  # fmt: skip


def trained():
    """What a training script saves: the state dict among other things."""
    model = net()
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(2, 2, 3, 3)).sum().backward()
    optimizer.step()
    return model, {"epoch": 3, "best": torch.tensor(0.5), "lr": 1e-3, "big": 2**40, "huge": 2**80, "negative": -(2**33),
                   "size": torch.Size([2, 3]), "none": None, "list": [1, [True, (1, 2, 3, 4)]], "device": torch.device("cpu"),
                   "optimizer": optimizer.state_dict()}  # fmt: skip


FILES = {}  # name: bytes of a file, and what torch.load must find in it


def add(name, obj, expected=None, **options):
    buffer = io.BytesIO()
    torch.save(obj, buffer, **options)
    found = torch.load(io.BytesIO(buffer.getvalue()))
    FILES[name] = (buffer.getvalue(), expected(found) if expected else found)


def plain(state, prefix):
    return OrderedDict((key[len(prefix) :], value) for key, value in state.items())


model, others = trained()
state = model.state_dict()
for suffix, options in (("", {}), ("-legacy", OLD), ("-protocol4", {"pickle_protocol": 4})):
    add("dtypes" + suffix, every_dtype(), **options)
    add("views" + suffix, views(), **options)
    add("nested" + suffix, {**others, "state_dict": state}, lambda found: found["state_dict"], **options)
add("state-legacy-protocol5", state, pickle_protocol=5, **OLD)
add("parameters", OrderedDict(model.named_parameters()))
add("parallel", nn.DataParallel(model).state_dict(), lambda found: plain(found, "module."))
compiled = OrderedDict(("_orig_mod.module." + key, value) for key, value in state.items())
add("compiled-in-model", {"model": compiled, "epoch": 1}, lambda found: plain(found["model"], "_orig_mod.module."))
add("two-models", {"model": state, "model_ema": nn.DataParallel(model).state_dict(), "epoch": 1}, lambda found: found["model"])


# What Python 2 and torch 0.1 wrote can be written no more, so these two pickles are by hand; torch.load reads them.
def legacy(pickled, keys, storages):
    head = b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    return head + pickled + pickle.dumps(keys, 2) + b"".join(struct.pack("<q", len(x)) + x.numpy().tobytes() for x in storages)


def text(value):
    return b"U" + bytes([len(value)]) + value.encode()


def tensor(storage, size):
    return b"ctorch._utils\n_rebuild_tensor\n(" + storage + b"K\x00K" + bytes([size]) + b"\x85K\x01\x85tR"


def storage(key, count, view=b"N"):
    return b"(" + text("storage") + b"ctorch.cuda\nFloatStorage\n" + text(key) + text("cuda:0") + b"K" + bytes([count]) + view + b"tQ"


# OrderedDict([["a", Parameter(tensor)], ...]): a list of lists, a Parameter with its state, memo numbers that begin at 1
pair_a = b"](" + text("a.weight") + b"ctorch.nn.parameter\nParameter\nq\x05" + tensor(storage("77", 4), 4) + b"\x85R(\x88\x89h\x01)Rtbe"
pair_b = b"](" + text("b") + b"h\x05" + tensor(storage("77", 4, b"(" + text("78") + b"K\x01K\x02t"), 2) + b"\x85\x81" + b"e"
python2 = b"\x80\x02ccollections\nOrderedDict\nq\x01](" + pair_a + pair_b + b"e\x85R."
x = torch.tensor([1.0, 2.0, 3.0, 4.0])
data = legacy(python2, ["77"], [x])
found = torch.load(io.BytesIO(data), map_location="cpu")
assert torch.equal(found["a.weight"], x) and torch.equal(found["b"], x[1:3]), found
FILES["python2-legacy"] = (data, found)

expected = {}
for name, (data, found) in FILES.items():
    with open(os.path.join(FOLDER, name + ".pth"), "wb") as file:
        file.write(data)
    expected[name] = [
        {"name": key, "dtype": NAMES[x.dtype], "shape": list(x.shape),
         "bytes": bytes(x.detach().contiguous().reshape(-1).view(torch.uint8).tolist()).hex() if x.numel() and x.dtype != torch.bool else
                  bytes(x.reshape(-1).tolist()).hex()}
        for key, x in found.items()
    ]  # fmt: skip


# --- files to refuse: the message has to name what they ask for, and nothing of them may run ---------------------------
class Evil:
    def __reduce__(self):
        return os.system, ("touch pixelwise-was-here",)


class EvilEval:
    def __reduce__(self):
        return eval, ("open('pixelwise-was-here', 'w')",)


REFUSED = {
    "evil-system": (Evil(), {}, "posix.system"),
    "evil-system-legacy": ({"state_dict": {"w": torch.zeros(1), "x": Evil()}}, OLD, "posix.system"),
    "evil-eval-protocol4": (EvilEval(), {"pickle_protocol": 4}, "builtins.eval"),
    "namespace": ({"model": state, "args": argparse.Namespace(lr=0.1)}, {}, "argparse.Namespace"),
    "whole-model": (model, {}, "torch.nn.modules.container.Sequential"),
    "numpy": ({"w": torch.ones(2).numpy()}, {}, "numpy.core.multiarray._reconstruct"),
    "quantized": ({"w": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}, {}, "torch._utils._rebuild_qtensor"),
    "complex": ({"w": torch.ones(2, dtype=torch.complex64)}, {}, "torch.ComplexFloatStorage"),
    "bare-tensor": (torch.ones(2), {}, "a single tensor"),
    "nothing": ({"epoch": 3}, {}, "no state dict"),
}  # fmt: skip
for name, (obj, options, _) in REFUSED.items():
    torch.save(obj, os.path.join(FOLDER, name + ".refused.pth"), **options)

save_json("pth", {"files": expected, "refused": {name: what for name, (_, _, what) in REFUSED.items()}}, "pth.py", SEED)
