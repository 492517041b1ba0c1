// The flags that say how a model is applied to images, for every command that does so: --scales, --flip, --window, --overlap, --memory,
// --precision.
import { type Command, Option } from "commander"
import { UserError } from "../errors.ts"
import { checkInference, type InferenceOptions } from "../infer/segment.ts"
import { type Precision, precisions } from "../torch/index.ts"

/** What the flags are parsed to. */
export interface InferenceFlags {
  scales?: number[]
  flip?: boolean
  /** Not null for none, of which commander makes "". */
  window?: [height: number, width: number] | "none"
  overlap?: number
  /** MiB. */
  memory?: number
  precision?: Precision
}

/** Adds the flags to a command. */
export function addInferenceOptions(command: Command): Command {
  return command
    .option(
      "--scales <a,b,...>",
      "sizes in which the model sees each image, averaged: 0.5,0.75,1 (default: 1)",
      (text) => text.split(",").map((part) => toNumber(part, "--scales", "factors such as 0.5,0.75,1")),
    )
    .option("--flip", "let the model see each image mirrored too, and average")
    .option(
      "--window <pixels|height,width|none>",
      "let the model see windows of this size one after the other; none: whole images (default: whole where --memory suffices)",
      parseWindow,
    )
    .option(
      "--overlap <share>",
      "share of a window that it has in common with the next one (default: 0.5; 0.25 where --memory asks for windows)",
      (text) => toNumber(text, "--overlap", "a share from 0 to below 1"),
    )
    .option(
      "--memory <MiB>",
      "memory that predicting an image may take; a larger one is seen in windows (default: 2048, at most a quarter of the machine's)",
      (text) => toNumber(text, "--memory", "MiB, above 0", (value) => value > 0),
    )
    .addOption(
      new Option("--precision <name>", "of the model's forward (default: what the run was trained in)").choices(
        precisions,
      ),
    )
}

/** Adds --device, for commands that need nothing else of the CPU or CUDA. */
export const addDeviceOption = (command: Command): Command =>
  command.option("--device <name>", "what computes: cpu, cuda, cuda:1 (CUDA has not been tested)", parseDevice, "cpu")

/**
 * What the flags of a command ask for; a key that was not given is not there.
 * @throws UserError for values that make no sense
 */
export function inferenceOptions({
  scales,
  flip,
  window,
  overlap,
  memory,
  precision,
}: InferenceFlags): InferenceOptions {
  const options: InferenceOptions = {
    ...(scales && { scales }),
    ...(flip && { flip }),
    ...(window !== undefined && { window: window === "none" ? null : window }),
    ...(overlap !== undefined && { overlap }),
    ...(memory !== undefined && { memory: memory * 2 ** 20 }),
    ...(precision && { precision }),
  }
  checkInference(options)
  return options
}

function parseDevice(text: string): string {
  if (/^(cpu|cuda(:\d+)?)$/.test(text)) return text
  throw new UserError(`--device: got "${text}"; expected cpu, cuda, or cuda:1 for the second.`)
}

function parseWindow(text: string): [number, number] | "none" {
  if (text === "none") return text
  const sides = text.split(",").map((part) => toNumber(part, "--window", "pixels, height and width, or none"))
  if (sides.length > 2) throw new UserError(`--window: got "${text}"; expected pixels, height and width, or none.`)
  return [sides[0]!, sides.at(-1)!]
}

function toNumber(text: string, flag: string, expected: string, isGood = (_value: number) => true): number {
  const value = Number(text)
  if (text.trim() !== "" && Number.isFinite(value) && isGood(value)) return value
  throw new UserError(`${flag}: got "${text}"; expected ${expected}.`)
}
