// The optimizers by name, and the schedules of their learning rate. To add one: write its file and add one line here.
import { didYouMean, UserError } from "../errors.ts"
import { Adam, type AdamOptions, AdamW } from "./adam.ts"
import { Lion } from "./lion.ts"
import type { NamedParameters, Optimizer } from "./optimizer.ts"
import { SGD, type SGDOptions } from "./sgd.ts"

/** The options of all optimizers; each takes those that it has. */
export type OptimizerOptions = SGDOptions & AdamOptions
export type OptimizerFactory = (parameters: NamedParameters, lr: number, options?: OptimizerOptions) => Optimizer

export const optimizers = {
  sgd: (parameters, lr, options) => new SGD(parameters, lr, options),
  adam: (parameters, lr, options) => new Adam(parameters, lr, options),
  adamw: (parameters, lr, options) => new AdamW(parameters, lr, options),
  lion: (parameters, lr, options) => new Lion(parameters, lr, options),
} satisfies Record<string, OptimizerFactory>

export type OptimizerName = keyof typeof optimizers
export const optimizerNames = Object.keys(optimizers) as OptimizerName[]

/** @throws UserError naming the optimizers there are */
export function createOptimizer(
  name: string,
  parameters: NamedParameters,
  lr: number,
  options: OptimizerOptions = {},
): Optimizer {
  const factory = (optimizers as Record<string, OptimizerFactory>)[name]
  if (!factory) {
    throw new UserError(
      `Unknown optimizer "${name}".${didYouMean(name, optimizerNames)} There are: ${optimizerNames.join(", ")}.`,
    )
  }
  return factory(parameters, lr, options)
}

export { Adam, type AdamOptions, AdamW } from "./adam.ts"
export { AveragedState } from "./average.ts"
export { GradScaler, type GradScalerOptions, type GradScalerState } from "./grad-scaler.ts"
export { clipByNorm, clipByValue, firstNonFinite, gradientNorm, isAllFinite } from "./gradients.ts"
export { Lion, type LionOptions } from "./lion.ts"
export { type NamedParameters, Optimizer, type ParameterSettings } from "./optimizer.ts"
export * from "./schedules.ts"
export { SGD, type SGDOptions } from "./sgd.ts"
