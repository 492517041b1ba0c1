// Gradients as a whole, between backward() and step(): are they finite, and are they too large?
// Pascanu et al. 2013, On the difficulty of training recurrent neural networks, https://arxiv.org/abs/1211.5063
import { aten, noGrad, type Parameter, type Tensor, tidy } from "../torch/index.ts"
import { type NamedParameters, requireNumber } from "./optimizer.ts"

/**
 * Length of all gradients as one vector. Not finite when one of their numbers is not, so this one number is the check of
 * all; but it overflows, too, where one is above 1e19: `firstNonFinite` tells the two apart.
 */
export function gradientNorm(parameters: Iterable<Parameter>): number {
  return tidy(() => {
    using _ = noGrad()
    const gradients = gradientsOf(parameters)
    if (gradients.length === 0) return 0
    // Not of their concatenation, which copies them first and takes as long.
    const norms = aten._foreach_norm_Scalar(gradients) // each []
    return aten.linalg_vector_norm(aten.stack(norms)).item()
  })
}

/**
 * Scales all gradients by one factor, so that their length is at most `limit`: their direction stays. As
 * torch.nn.utils.clip_grad_norm_, with its 1e-6 in the denominator.
 * @param norm their length, where it is known already
 */
export function clipByNorm(parameters: readonly Parameter[], limit: number, norm = gradientNorm(parameters)): void {
  const factor = requireNumber("clipNorm", limit, 0) / (norm + 1e-6)
  if (factor >= 1) return
  change(parameters, (gradients) => aten._foreach_mul__Scalar(gradients, factor))
}

/** Brings every number of every gradient into -limit..limit, each by itself. As torch.nn.utils.clip_grad_value_. */
export function clipByValue(parameters: readonly Parameter[], limit: number): void {
  requireNumber("clipValue", limit, 0)
  change(parameters, (gradients) => {
    for (const gradient of gradients) aten.clamp_(gradient, { min: -limit, max: limit })
  })
}

/** Name of the last parameter, so in most models that nearest the loss, whose gradient is not finite; null: all are. */
export function firstNonFinite(parameters: NamedParameters): string | null {
  const bad = [...parameters].findLast(([, { grad }]) => grad && !isAllFinite(grad))
  return bad?.[0] ?? null
}

/** Whether no number of a tensor is NaN or infinite. */
export const isAllFinite = (tensor: Tensor): boolean => tidy(() => aten.isfinite(tensor).all().item() !== 0)

function change(parameters: Iterable<Parameter>, inPlace: (gradients: readonly Tensor[]) => void): void {
  tidy(() => {
    using _ = noGrad()
    const gradients = gradientsOf(parameters)
    if (gradients.length > 0) inPlace(gradients)
  })
}

const gradientsOf = (parameters: Iterable<Parameter>): Tensor[] =>
  [...parameters].map(({ grad }) => grad).filter((grad) => grad !== null)
