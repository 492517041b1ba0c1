// For the record: TensorFlow.js on the UNet of run.ts, as far as it runs without its native addon. Its WebAssembly backend has no
// gradient of a convolution's kernel, so training is its plain JavaScript backend's.
//   npm install --prefix bench/tensorflowjs && node bench/tensorflowjs/unet.mjs [width, 8] [rounds, 5]
// Prints the milliseconds of a training step (4x3x128x128: forward, loss, backward, SGD) and of inference (1x3x256x256).

import { availableParallelism } from "node:os"
import * as tf from "@tensorflow/tfjs"
import { setThreadsCount } from "@tensorflow/tfjs-backend-wasm"

const [width, rounds] = [Number(process.argv[2] ?? 8), Number(process.argv[3] ?? 5)]
const [CLASSES, DEPTH] = [21, 4]
const { conv2d, batchNormalization, reLU, maxPooling2d, conv2dTranspose, concatenate } = tf.layers

function doubleConv(x, filters) {
  for (let k = 0; k < 2; k++) {
    x = conv2d({ filters, kernelSize: 3, padding: "same", useBias: false }).apply(x)
    x = reLU().apply(batchNormalization().apply(x))
  }
  return x
}

/** src/models/unet.ts, with transposed convolutions. */
function createUNet(size) {
  const image = tf.input({ shape: [size, size, 3] })
  const skips = []
  let x = image
  for (let level = 0; level <= DEPTH; level++) {
    if (level > 0) x = maxPooling2d({ poolSize: 2, strides: 2 }).apply(x)
    x = doubleConv(x, width * 2 ** level)
    skips.push(x)
  }
  for (let level = DEPTH - 1; level >= 0; level--) {
    const filters = width * 2 ** level
    x = conv2dTranspose({ filters, kernelSize: 2, strides: 2 }).apply(x)
    x = doubleConv(concatenate().apply([skips[level], x]), filters)
  }
  return tf.model({ inputs: image, outputs: conv2d({ filters: CLASSES, kernelSize: 1 }).apply(x) })
}

/** The least of `rounds`, after one that does not count. */
async function timed(work) {
  const times = []
  for (let k = 0; k <= rounds; k++) {
    const start = performance.now()
    await work()
    times.push(performance.now() - start)
  }
  return Math.min(...times.slice(1)).toFixed(0)
}

async function step() {
  const model = createUNet(128)
  const images = tf.randomNormal([4, 128, 128, 3])
  const labels = tf.oneHot(tf.randomUniform([4, 128, 128], 0, CLASSES, "int32"), CLASSES)
  const optimizer = tf.train.momentum(0.01, 0.9)
  const work = async () => {
    const loss = optimizer.minimize(
      () => tf.losses.softmaxCrossEntropy(labels, model.apply(images, { training: true })),
      true,
    )
    await loss.data()
    loss.dispose()
  }
  return timed(work)
}

async function infer() {
  const model = createUNet(256)
  const image = tf.randomNormal([1, 256, 256, 3])
  const work = async () => {
    const labels = tf.tidy(() => model.predict(image).argMax(-1))
    await labels.data()
    labels.dispose()
  }
  return timed(work)
}

await tf.setBackend("cpu")
console.log(`UNet-${width}, TensorFlow.js ${tf.version.tfjs}, cpu: a training step takes ${await step()} ms`)
setThreadsCount(availableParallelism())
await tf.setBackend("wasm")
console.log(`UNet-${width}, TensorFlow.js ${tf.version.tfjs}, wasm: inference takes ${await infer()} ms`)
