// What is measured. plain_torch.py does the same under the same names, the way a user of PyTorch would write it.

import { segment } from "../src/infer/segment.ts"
import { createObjective } from "../src/losses/objective.ts"
import { callAtStride, createModel, type ModelOptions } from "../src/models/index.ts"
import { SGD } from "../src/optim/index.ts"
import { aten, type levers, randint, randn, tidy } from "../src/torch/index.ts"

export interface Workload {
  readonly name: string
  readonly unit: string
  /** From milliseconds to the unit. */
  readonly perMillisecond: number
  readonly digits: number
  /** What Python's time over ours, of the best rounds, should be at least; absent: nothing was set. */
  readonly target?: number
  /** The levers that act on it. */
  readonly levers: readonly (keyof typeof levers)[]
  /** Of training steps: of what network, with images of what size. */
  readonly training?: { readonly network: Network; readonly size: Size }
  /** Builds what is needed: one repetition, and the parameters of its model, which must be as many on both sides. */
  prepare(): { readonly repeat: () => void; readonly parameters: number }
}

type Size = readonly [n: number, h: number, w: number]
interface Network extends Partial<ModelOptions> {
  readonly model: string
}
const CLASSES = 21
const CALLS = 20_000

const overhead: Workload = {
  name: "op-overhead",
  unit: "us per relu of 4 numbers, freed",
  levers: [],
  perMillisecond: 1000 / CALLS,
  digits: 2,
  prepare() {
    const x = randn([4])
    return {
      parameters: 0,
      repeat: () => {
        for (let k = 0; k < CALLS; k++) aten.relu(x).dispose()
      },
    }
  },
}

function create({ model: name, ...options }: Network, mode: "train" | "eval") {
  const model = createModel(name, { numClasses: CLASSES, ...options })
  model.train(mode === "train")
  return { model, parameters: model.parameters().reduce((sum, { numel }) => sum + numel, 0) }
}

/** A step is forward, loss, backward, SGD, as the trainer does it, and gives the loss. */
export function prepareTraining(network: Network, [n, h, w]: Size) {
  const { model, parameters } = create(network, "train")
  const optimizer = new SGD(model.namedParameters(), 0.01, { momentum: 0.9, weightDecay: 1e-4 })
  const objective = createObjective({ terms: [{ name: "cross-entropy", factor: 1 }] })
  const [images, labels] = [randn([n, 3, h, w]), randint(0, CLASSES, [n, h, w])]
  const step = () =>
    tidy(() => {
      optimizer.zeroGrad()
      const loss = objective(callAtStride(model, images), { labels }, { step: 0, progress: 0 })
      loss.backward()
      optimizer.step()
      return loss.item()
    })
  return { model, parameters, images, labels, step }
}

const training = (
  name: string,
  network: Network,
  [n, h, w]: Size,
  acting: Workload["levers"],
  target?: number,
): Workload => ({
  name: `${name}-train`,
  unit: `ms per step, ${n}x3x${h}x${w}`,
  perMillisecond: 1,
  digits: 0,
  levers: acting,
  ...(target && { target }),
  training: { network, size: [n, h, w] },
  prepare() {
    const { parameters, step } = prepareTraining(network, [n, h, w])
    return { repeat: step, parameters }
  },
})

/** In a row, so that what is measured is not how threads wake up that have slept during the other side's turn. */
const IMAGES = 10

/** From the image to its labels. */
const inference = (
  name: string,
  network: Network,
  [n, h, w]: Size,
  acting: Workload["levers"],
  target?: number,
): Workload => ({
  name: `${name}-infer`,
  unit: `ms per image, ${n}x3x${h}x${w}`,
  perMillisecond: 1 / IMAGES,
  digits: 1,
  levers: acting,
  ...(target && { target }),
  prepare() {
    const { model, parameters } = create(network, "eval")
    const image = tidy(() => randn([n, 3, h, w]).data()) as Float32Array
    const repeat = () => {
      for (let k = 0; k < IMAGES; k++) segment(model, image, [n, h, w])
    }
    return { repeat, parameters }
  },
})

const inTraining = ["fuseBatchNorm", "fuseOptimizer", "sideBySide", "pointwise", "winograd"] as const
const inInference = ["foldBatchNorm", "keepFolded", "sideBySide", "pointwise", "winograd"] as const
const list: readonly Workload[] = [
  training(
    "deeplabv3-r50",
    { model: "deeplabv3_resnet50" },
    [4, 128, 128],
    [...inTraining, "atrous", "upsampleLoss"],
    1.4,
  ),
  training(
    "deeplabv3-r50-aux",
    { model: "deeplabv3_resnet50", aux: true },
    [2, 256, 256],
    [...inTraining, "atrous", "upsampleLoss"],
    1.35,
  ),
  training("unet64", { model: "unet", width: 64 }, [4, 128, 128], [...inTraining, "transposed"], 1.35),
  training("unet32", { model: "unet", width: 32 }, [4, 128, 128], [...inTraining, "transposed"], 1.8),
  training(
    "deeplabv3-r18",
    { model: "deeplabv3", encoder: "resnet18" },
    [4, 192, 256],
    [...inTraining, "atrous", "upsampleLoss"],
    1.35,
  ),
  training(
    "lraspp",
    { model: "lraspp_mobilenet_v3_large" },
    [4, 192, 256],
    [...inTraining, "depthwise", "upsampleLoss"],
    2,
  ),
  inference(
    "deeplabv3-r50",
    { model: "deeplabv3_resnet50" },
    [1, 256, 256],
    [...inInference, "atrous", "upsampleLabels"],
    1.45,
  ),
  inference("lraspp", { model: "lraspp_mobilenet_v3_large" }, [1, 256, 256], [...inInference, "upsampleLabels"], 2.1),
  inference("unet64", { model: "unet", width: 64 }, [1, 256, 256], [...inInference, "transposed"]),
  inference("unet32", { model: "unet", width: 32 }, [1, 256, 256], [...inInference, "transposed"]),
  overhead,
]
export const workloads: Readonly<Record<string, Workload>> = Object.fromEntries(
  list.map((workload) => [workload.name, workload]),
)
