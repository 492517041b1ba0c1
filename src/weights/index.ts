// Published weights: the list of them, and their files on this machine.
export { cachedPath, type FetchOptions, fetchWeights, weightsFolder } from "./download.ts"
export { preprocessingOf, type WeightPreprocessing } from "./preprocessing.ts"
export {
  findWeights,
  isDefault,
  type Preprocessing,
  publishedWeights,
  suggestWeights,
  vocClassNames,
  type Weights,
} from "./registry.ts"
export { type ResolvedWeights, resolveWeights } from "./resolve.ts"
