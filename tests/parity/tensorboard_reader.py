"""Makes tensorboard-read.json, by hand, in an environment with TensorBoard (pip install tensorboard; 2.21):
python tests/parity/tensorboard_reader.py. CI only reads it.
What TensorBoard itself reads: of tensorboard.events, whose bytes ours equal, all values; and of a run that is resumed after 5 of
8 steps, in files of the events that ours have, the steps that it shows when it was open all the time and when it is opened later.

With a folder as argument it prints what TensorBoard reads there: python tests/parity/tensorboard_reader.py RUN"""
import json
import os
import shutil
import sys
import tempfile

import tensorboard
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata as hparams
from tensorboard.util import tensor_util

sys.dont_write_bytecode = True
from tensorboard_events import P, event, read, write  # noqa: E402

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden")


def values(accumulator):
    """plugin: {tag: [[step, time, value]]}; of pictures width, height and the number of bytes."""
    found = {}
    for tag in sorted(accumulator.Tags()["tensors"]):
        metadata = accumulator.SummaryMetadata(tag)
        plugin = metadata.plugin_data.plugin_name
        rows = []
        for event in accumulator.Tensors(tag):
            value = tensor_util.make_ndarray(event.tensor_proto)
            if plugin == "scalars":
                value = str(value.item()) if abs(value.item()) == float("inf") or value != value else value.item()
            elif plugin == "images":
                width, height, data = value
                value = [int(width), int(height), len(data)]
            elif plugin == "text":
                value = value.item().decode()
            else:
                info = hparams.parse_session_start_info_plugin_data(metadata.plugin_data.content)
                value = {k: getattr(v, v.WhichOneof("kind")) for k, v in sorted(info.hparams.items())}
            rows.append([event.step, event.wall_time, value])
        found.setdefault(plugin, {})[tag] = rows
    return found


def everything(folder):
    return values(EventAccumulator(folder, size_guidance={"tensors": 0}).Reload())


def part(start, steps):
    """An event file as the writer of a run makes it: its version, the start of a session, the curve."""
    yield event(1.7e9, 0, file_version="brain.Event:2")
    yield event(1.7e9, start, session_log=P["SessionLog"](status=1))
    for step in steps:
        yield event(1.7e9 + step, step, P["Value"](tag="train/loss", simple_value=1 / step))


def resumed(folder):
    first, second = (os.path.join(folder, f"events.out.tfevents.170000000{k}.host.1") for k in range(2))

    def steps(accumulator):
        return [event.step for event in accumulator.Reload().Tensors("train/loss")]

    write(first, part(0, range(1, 9)))
    watching = EventAccumulator(folder)
    before = steps(watching)
    write(first, part(0, range(1, 6)))  # cut off after the step that was saved
    write(second, part(6, range(6, 11)))
    return {
        "files": [[found.step for found in read(path)] for path in (first, second)],
        "before": before,
        "openAllTheTime": steps(watching),
        "openedLater": steps(EventAccumulator(folder)),
    }


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(everything(sys.argv[1]), indent=1))
    else:
        result = {"origin": {"generator": "tests/parity/tensorboard_reader.py", "tensorboard": tensorboard.__version__}}
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(os.path.join(GOLDEN, "tensorboard.events"), os.path.join(folder, "events.out.tfevents.1700000000.host.1"))
            result["read"] = everything(folder)
        with tempfile.TemporaryDirectory() as folder:
            result["resumed"] = resumed(folder)
        with open(os.path.join(GOLDEN, "tensorboard-read.json"), "w") as file:
            json.dump(result, file, indent=1)
            file.write("\n")
