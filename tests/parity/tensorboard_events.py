"""Makes tensorboard.events, by hand: /usr/bin/python3 tests/parity/tensorboard_events.py (Debian: python3-protobuf). CI only reads it.
The events of tensorboard.test.ts as Google's protobuf library writes them, whose messages are declared below as TensorBoard's
.proto files declare them (tensorboard/compat/proto/{event,summary,tensor,tensor_shape}.proto, plugins/hparams/plugin_data.proto),
in TFRecord frames with a CRC-32C that is computed bit by bit.

With files as arguments it reads them instead, checks each frame and prints each event:
/usr/bin/python3 tests/parity/tensorboard_events.py RUN/events.out.tfevents.*"""
import os
import struct
import sys
import zlib

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# message: (field, number, type or message, how often: "" | "repeated" | the oneof that it is one of)
MESSAGES = {
    "Event": [
        ("wall_time", 1, "double", ""), ("step", 2, "int64", ""), ("file_version", 3, "string", "what"),
        ("summary", 5, "Summary", "what"), ("session_log", 7, "SessionLog", "what"),
    ],
    "SessionLog": [("status", 1, "int32", "")],
    "Summary": [("value", 1, "Value", "repeated")],
    "Value": [
        ("tag", 1, "string", ""), ("simple_value", 2, "float", "value"), ("image", 4, "Image", "value"),
        ("tensor", 8, "TensorProto", "value"), ("metadata", 9, "SummaryMetadata", ""),
    ],
    "Image": [
        ("height", 1, "int32", ""), ("width", 2, "int32", ""), ("colorspace", 3, "int32", ""),
        ("encoded_image_string", 4, "bytes", ""),
    ],
    "SummaryMetadata": [("plugin_data", 1, "PluginData", ""), ("data_class", 4, "int32", "")],
    "PluginData": [("plugin_name", 1, "string", ""), ("content", 2, "bytes", "")],
    "TensorProto": [
        ("dtype", 1, "int32", ""), ("tensor_shape", 2, "TensorShape", ""), ("float_val", 5, "float", "repeated"),
        ("string_val", 8, "bytes", "repeated"),
    ],
    "TensorShape": [("dim", 2, "Dim", "repeated")],
    "Dim": [("size", 1, "int64", "")],
    "HParamsPluginData": [("version", 1, "int32", ""), ("session_start_info", 3, "SessionStartInfo", "data")],
    "SessionStartInfo": [("hparams", 1, "Entry", "repeated"), ("start_time_secs", 5, "double", "")],
    "Entry": [("key", 1, "string", ""), ("value", 2, "Setting", "")],  # an entry of a map
    "Setting": [  # google.protobuf.Value
        ("number_value", 2, "double", "kind"), ("string_value", 3, "string", "kind"), ("bool_value", 4, "bool", "kind"),
    ],
}  # fmt: skip


def declare():
    file = descriptor_pb2.FileDescriptorProto(name="events.proto", package="p", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        oneofs = []
        for field, number, kind, often in fields:
            entry = message.field.add(name=field, number=number)
            entry.label = kinds.LABEL_REPEATED if often == "repeated" else kinds.LABEL_OPTIONAL
            if kind in MESSAGES:
                entry.type, entry.type_name = kinds.TYPE_MESSAGE, ".p." + kind
            else:
                entry.type = getattr(kinds, "TYPE_" + kind.upper())
            if often not in ("", "repeated"):
                if often not in oneofs:
                    oneofs.append(often)
                    message.oneof_decl.add(name=often)
                entry.oneof_index = oneofs.index(often)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    # protobuf 3 (Debian) and 4 on
    made = getattr(message_factory, "GetMessageClass", None) or message_factory.MessageFactory(pool).GetPrototype
    return {name: made(pool.FindMessageTypeByName("p." + name)) for name in MESSAGES}


P = declare()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def framed(data):
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked(length)) + data + struct.pack("<I", masked(data))


def read(path):
    with open(path, "rb") as file:
        data = file.read()
    at = 0
    while at < len(data):
        (length, crc) = struct.unpack_from("<QI", data, at)
        assert crc == masked(data[at : at + 8]), f"{path}: checksum of the length at {at}"
        content = data[at + 12 : at + 12 + length]
        assert len(content) == length, f"{path}: cut off at {at}"
        assert struct.unpack_from("<I", data, at + 12 + length)[0] == masked(content), f"{path}: checksum at {at}"
        yield P["Event"].FromString(content)
        at += length + 16


def png():
    """2x1 pixels: red, white."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 2, 1, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes([0, 255, 0, 0, 255, 255, 255]))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def event(wall_time, step, *values, **what):
    if values:
        what = dict(summary=P["Summary"](value=values))
    return P["Event"](wall_time=wall_time, step=step, **what)


def write(path, made):
    with open(path, "wb") as file:
        for one in made:
            file.write(framed(one.SerializeToString()))


def events():
    value, tensor = P["Value"], P["TensorProto"]
    start = P["SessionLog"](status=1)
    yield event(1.7e9, 0, file_version="brain.Event:2")
    yield event(1.7e9, 0, session_log=start)
    yield event(1700000000.25, 1, value(tag="train/loss", simple_value=2.5), value(tag="train/learning_rate", simple_value=0.007))
    yield event(1700000001.5, 127, value(tag="zero", simple_value=0))  # a oneof's 0 is written
    yield event(1700000001.5, 128, value(tag="nan", simple_value=float("nan")), value(tag="inf", simple_value=float("-inf")))
    yield event(1700000002.0, 2**40 + 5, value(tag="iou/Übergröße 犬", simple_value=1 / 3))
    picture = P["Image"](height=1, width=2, colorspace=3, encoded_image_string=png())
    yield event(1700000003.0, 300, value(tag="validation/samples", image=picture))
    text = tensor(dtype=7, tensor_shape=P["TensorShape"](), string_val=["| option | value |\n| --- | --- |".encode()])
    plugin = P["PluginData"](plugin_name="text")
    yield event(1.7e9, 0, value(tag="configuration", tensor=text, metadata=P["SummaryMetadata"](plugin_data=plugin, data_class=2)))
    setting, entry = P["Setting"], P["Entry"]
    hparams = [
        entry(key="model", value=setting(string_value="unet")),
        entry(key="learningRate", value=setting(number_value=0.007)),
        entry(key="seed", value=setting(number_value=0)),
        entry(key="poly", value=setting(bool_value=True)),
        entry(key="freeze", value=setting(bool_value=False)),
    ]
    info = P["SessionStartInfo"](hparams=hparams, start_time_secs=1.7e9)
    content = P["HParamsPluginData"](session_start_info=info).SerializeToString()
    plugin = P["PluginData"](plugin_name="hparams", content=content)
    zero = tensor(dtype=1, tensor_shape=P["TensorShape"](dim=[P["Dim"](size=1)]), float_val=[0])
    yield event(
        1.7e9, 0,
        value(tag="_hparams_/session_start_info", tensor=zero, metadata=P["SummaryMetadata"](plugin_data=plugin, data_class=2)),
    )  # fmt: skip
    yield event(1.7e9 + 60, 2**41, session_log=start)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        for path in sys.argv[1:]:
            for found in read(path):
                for value in found.summary.value:
                    value.image.encoded_image_string = value.image.encoded_image_string[:8]
                print(str(found))
    else:
        golden = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden", "tensorboard.events")
        write(golden, events())
        print(len(list(read(golden))), "events")
