// The library: what `import ... from "pixelwise"` gives. Each layer is a namespace; the most used names stand alone.

export { Loader } from "./data/loader.ts"
export { openPredictionFolder } from "./data/prediction-folder.ts"
export { openVocFolder, openVocMasks, type VocFolder } from "./data/voc-folder.ts"
export { UserError } from "./errors.ts"
export { type Exploration, explore } from "./explore/explore.ts"
export { evaluate, evaluationLoader } from "./infer/evaluate.ts"
export { scorePredictions } from "./infer/score-predictions.ts"
export { type InferenceOptions, type Segmentation, type SegmentOptions, segment } from "./infer/segment.ts"
export * as losses from "./losses/index.ts"
export { createObjective, type Objective, type ObjectiveOptions, parseLoss } from "./losses/objective.ts"
export * as metrics from "./metrics/index.ts"
export { type Scores, summarize } from "./metrics/index.ts"
export {
  createClassifier,
  createEncoder,
  createModel,
  DeepLabV3,
  type DeepLabV3Options,
  DeepLabV3Plus,
  type DeepLabV3PlusOptions,
  type Encoder,
  type EncoderOptions,
  EncoderUNet,
  encoderNames,
  FCN,
  type FCNOptions,
  FCNSkip,
  type FCNSkipOptions,
  ImagePyramid,
  type ImagePyramidOptions,
  LinkNet,
  LRASPP,
  type ModelOptions,
  modelNames,
  PSPNet,
  type PSPNetOptions,
  type SegmentationModel,
  type SegmentationOutput,
  SegNet,
  UNet,
  type UNetOptions,
} from "./models/index.ts"
export * as nn from "./nn/index.ts"
export * as optim from "./optim/index.ts"
export { type Comparison, compareRuns } from "./report/comparison.ts"
export { writeReport } from "./report/run-report.ts"
export * as torch from "./torch/index.ts"
export { Tensor, tidy } from "./torch/index.ts"
export { parseConfig, type TrainConfig } from "./train/config.ts"
export { joinGroup } from "./train/distributed.ts"
export { evaluateRun } from "./train/evaluate-run.ts"
export { type Difference, difference, type Explanation } from "./train/explain.ts"
export { explainConfig } from "./train/explain-config.ts"
export { protocols } from "./train/protocols.ts"
export { resumeRun, startRun } from "./train/run.ts"
export { RunFolder } from "./train/run-folder.ts"
export { trainedModel } from "./train/trained-model.ts"
export { Trainer } from "./train/trainer.ts"
export { version } from "./version.ts"
export { fetchWeights, findWeights, publishedWeights, resolveWeights, type Weights } from "./weights/index.ts"
