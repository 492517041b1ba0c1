// What is measured. plain_torch.py does the same under the same names, the way a user of PyTorch would write it.

import { crossEntropy } from "../src/losses/index.ts"
import { UNet } from "../src/models/index.ts"
import { SGD } from "../src/optim/index.ts"
import { aten, noGrad, randint, randn, tidy } from "../src/torch/index.ts"

interface Workload {
  readonly name: string
  readonly unit: string
  /** From milliseconds to the unit. */
  readonly perMillisecond: number
  readonly digits: number
  /** Builds what is needed and returns one repetition. */
  prepare(): () => void
}

const CALLS = 20_000

const overhead: Workload = {
  name: "op-overhead",
  unit: "us per relu of 4 numbers, freed",
  perMillisecond: 1000 / CALLS,
  digits: 2,
  prepare() {
    const x = randn([4])
    return () => {
      for (let k = 0; k < CALLS; k++) aten.relu(x).dispose()
    }
  },
}

const unetTraining = (width: number): Workload => ({
  name: `unet${width}-train`,
  unit: "ms per step, 4x3x128x128",
  perMillisecond: 1,
  digits: 0,
  prepare() {
    const model = new UNet({ numClasses: 21, width })
    const optimizer = new SGD(model.namedParameters(), 0.01, { momentum: 0.9, weightDecay: 1e-4 })
    const [images, target] = [randn([4, 3, 128, 128]), randint(0, 21, [4, 128, 128])]
    return () =>
      tidy(() => {
        optimizer.zeroGrad()
        const { logits } = model.call(images)
        const loss = crossEntropy(logits, target)
        loss.backward()
        optimizer.step()
        return loss.item()
      })
  },
})

const unetInference = (width: number): Workload => ({
  name: `unet${width}-infer`,
  unit: "ms per image, 1x3x256x256",
  perMillisecond: 1,
  digits: 1,
  prepare() {
    const model = new UNet({ numClasses: 21, width }).eval()
    const image = randn([1, 3, 256, 256])
    return () =>
      tidy(() => {
        using _ = noGrad()
        return model.call(image).logits.argmax({ dim: 1 }).size(0)
      })
  },
})

export const workloads = Object.fromEntries(
  [overhead, unetTraining(32), unetTraining(64), unetInference(32), unetInference(64)].map((workload) => [
    workload.name,
    workload,
  ]),
)
