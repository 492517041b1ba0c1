// A file of weights from anywhere: what it is is decided by its first bytes, because extensions lie (.bin, .pt, .ckpt).
import { UserError } from "../errors.ts"
import { readBytes, readingWeights, show, Unreadable } from "./file-bytes.ts"
import { loadPth, withoutWrapperPrefix } from "./pth.ts"
import { loadSafetensors } from "./safetensors.ts"
import type { Tensor } from "./tensor.ts"

const HEAD = 512 // bytes

/** What people hand over by mistake. The first that fits names it; `text` is the head in lower case. */
const mistakes: readonly [looksLike: (head: Buffer, text: string) => boolean, what: string][] = [
  [(head) => head.length === 0, "it is empty. Was the download cut off?"],
  [
    (_, text) => /^\s*<(!doctype html|html|head|\?xml)/.test(text),
    "it is a web page, not weights. Was it downloaded from a link that shows the file instead of giving it?",
  ],
  [
    (_, text) => text.startsWith("version https://git-lfs"),
    "it is a git-lfs pointer, not the weights themselves. Fetch them with git lfs pull",
  ],
  [
    (head) => head[0] === 0x1f && head[1] === 0x8b,
    "it is compressed by gzip. Unpack it with gunzip (or tar xzf) first",
  ],
  [(_, text) => text.startsWith("\x89hdf"), "it is HDF5, as Keras writes"],
  [(_, text) => text.startsWith("\x93numpy"), "it is an array of NumPy"],
  [(_, text) => text.startsWith("{"), "it is JSON: perhaps the index of weights that are split over several files"],
  // Protocol buffers: ir_version (field 1) from 3 to 15, then producer_name (field 2) or graph (field 7)
  [(head) => head[0] === 0x08 && head[1]! < 16 && (head[2] === 0x12 || head[2] === 0x3a), "it is an ONNX model"],
]

/**
 * Weights from a .safetensors file or a PyTorch checkpoint, told apart by their content, with the prefixes of
 * DataParallel and torch.compile taken off (see `loadPth`). `metadata` are the notes of a .safetensors file.
 * @param key which of several state dicts of a PyTorch checkpoint to take
 * @throws UserError when the file cannot be read, is damaged, or is something else: then it says what
 */
export function loadWeightFile(
  path: string,
  { key }: { key?: string } = {},
): { tensors: Map<string, Tensor>; metadata: Record<string, string> } {
  const kind = readingWeights(path, (file) => kindOf(readBytes(file, 0, Math.min(file.size, HEAD))))
  if (kind === "pth") return { ...loadPth(path, { key }), metadata: {} }
  if (key !== undefined)
    throw new UserError(`Cannot read weights ${path}: a .safetensors file has one state dict, and no key ${show(key)}.`)
  const { tensors, metadata } = loadSafetensors(path)
  return { tensors: withoutWrapperPrefix(tensors), metadata }
}

function kindOf(head: Buffer): "safetensors" | "pth" {
  const text = head.toString("latin1").toLowerCase()
  // zip, pickle, tar: loadPth says what is wrong with those that are not PyTorch's
  if (text.startsWith("pk") || head[0] === 0x80 || text.startsWith("ustar", 257)) return "pth"
  // the length of the header in 8 bytes, of which files have no use for the upper four; then the header
  if (head.length > 8 && head.readUInt32LE(4) === 0 && text[8] === "{") return "safetensors"
  const mistake = mistakes.find(([looksLike]) => looksLike(head, text))
  throw new Unreadable(mistake?.[1] ?? "it is neither a .safetensors file nor a PyTorch checkpoint (.pth)")
}
