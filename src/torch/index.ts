// The tensor layer: libtorch from TypeScript.
export * as aten from "./aten.generated.ts"
export * from "./autocast.ts"
export * from "./create.ts"
export { CudaGraph, isCapturing, type Replayable } from "./cuda-graph.ts"
export { call, findOperator } from "./dispatch.ts"
export type { DType, Layout, MemoryFormat, TensorData } from "./dtype.ts"
export { bytesPerElement, isFloating } from "./dtype.ts"
export * from "./errors.ts"
export { Generator, manualSeed, rngState, setRngState } from "./generator.ts"
export * from "./grad-mode.ts"
export { alone, type GradientMean, type Group, GroupError } from "./group.ts"
export { type Index, type Slice, slice } from "./indexing.ts"
export {
  adam_,
  atrousConv2d,
  type BatchNormState,
  batchNormClamp,
  type CountedBatchNorm,
  depthwiseConv2d,
  foldBatchNorm,
  foldKey,
  type Limits,
  pointwiseConv2d,
  sgd_,
  squaredDistance,
  upsampledArgmax,
  upsampledCrossEntropy,
  upsampledOverlap,
  winogradConv2d,
  winogradKernels,
} from "./kernels.ts"
export { levers } from "./levers.ts"
export { Parameter, StateBuffer } from "./parameter.ts"
export { groupBackends, isGroupFailure, type JoinOptions, ProcessGroup } from "./process-group.ts"
export * from "./profile.ts"
export * from "./recording.ts"
export * from "./runtime.ts"
export { loadSafetensors, saveSafetensors } from "./safetensors.ts"
export { type NestedNumbers, type Shape, Tensor, type ToOptions } from "./tensor.ts"
export { tidy } from "./tidy.ts"
export { loadWeightFile } from "./weight-file.ts"
