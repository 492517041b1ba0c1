// What makes models faster and changes nothing they compute, but for rounding. Those that pay on this machine are on; here they can be
// switched, to measure what each gives, or when a result is in doubt.
import { native } from "./native.ts"

// Where OpenBLAS leaves AVX-512 to oneDNN, most convolutions as matrix products do not pay. Milliseconds on two Zen 5 cores, best of 5, with and
// without, OpenBLAS for Haswell and OpenBLAS for Cooperlake:
//   pointwise, a step of DeepLabV3 on ResNet-50, 4x3x128x128    834 and 669    589 and 634
//   winograd, UNet-64's labels of 256x256                       357 and 310    (its step, 4x3x128x128:) 794 and 1030
// Those of `atrous` and `transposed` pay with either.
const areProductsFast = !native.narrowProducts()

export const levers = {
  /** A convolution and the batch-norm behind it become one convolution, where neither learns (nn/chain.ts). */
  foldBatchNorm: true,
  /** Such a convolution's kernel is kept between calls, for inference (nn/conv.ts). */
  keepFolded: true,
  /** Batch-norm and the ReLU or ReLU6 behind it are one operator (native/batch-norm.cc). */
  fuseBatchNorm: true,
  /** A parameter's step of SGD or Adam is one operator (native/sgd.cc, native/adam.cc). */
  fuseOptimizer: true,
  /** Dilated convolutions that filter each channel by itself have gradients of our own (native/depthwise-convolution.cc). */
  depthwise: true,
  /** 1x1 convolutions are matrix products (native/pointwise-convolution.cc). */
  pointwise: areProductsFast,
  /** Convolutions skip the taps that see nothing but padding (native/atrous-convolution.cc). */
  atrous: true,
  /** 3x3 convolutions of many channels are computed by tiles, with fewer multiplications (native/winograd-convolution.cc). */
  winograd: areProductsFast,
  /** Transposed convolutions whose windows do not overlap are a matrix product (nn/conv.ts). */
  transposed: true,
  /** Values have their channels side by side where that is faster (models/memory-format.ts). */
  sideBySide: true,
  /** Labels are found while logits are enlarged, row by row (native/upsampled-argmax.cc). */
  upsampleLabels: true,
  /** Logits are enlarged within the loss, row by row (native/upsampled-cross-entropy.cc). */
  upsampleLoss: true,
}
