"""Writes golden values: .safetensors (https://huggingface.co/docs/safetensors) and .json, each with its origin."""
import json
import os
import struct

import torch

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden")
DTYPES = {torch.float32: "F32", torch.float64: "F64", torch.int64: "I64", torch.uint8: "U8", torch.bool: "BOOL"}


def origin(generator, seed):
    return {"generator": f"tests/parity/{generator}", "seed": str(seed), "torch": torch.__version__}


def save_tensors(name, tensors, generator, seed):
    header, blobs, at = {"__metadata__": origin(generator, seed)}, [], 0
    for key, tensor in tensors.items():
        tensor = tensor.detach().contiguous()
        blobs.append(tensor.numpy().tobytes())
        header[key] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, at + len(blobs[-1])]}
        at += len(blobs[-1])
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(FOLDER, name + ".safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def save_json(name, value, generator, seed):
    with open(os.path.join(FOLDER, name + ".json"), "w") as file:
        json.dump({"origin": origin(generator, seed), **value}, file, indent=1)
        file.write("\n")
