// Mixed precision: libtorch's autocast. Convolutions and matrix products take copies of their arguments in fewer bits; what would
// suffer from that stays in float32, and so do the weights. Micikevicius et al. 2018, https://arxiv.org/abs/1710.03740
import { UserError } from "../errors.ts"
import { native } from "./native.ts"

/** Of a forward. float32: as everything is without autocast. */
export const precisions = ["float32", "bfloat16", "float16"] as const
export type Precision = (typeof precisions)[number]

/**
 * Runs `fn` in a precision: `autocast({ dtype: "bfloat16" }, () => model.call(x))`. Weights keep their float32; copies of them in
 * fewer bits are kept while it runs, so change none inside. The backward belongs outside: it takes the forward's precision by
 * itself. Inside another autocast, float32 switches it off.
 * @param dtype bfloat16 on the CPU, bfloat16 or float16 on CUDA
 * @param device where the tensors are: "cpu", "cuda", "cuda:1"
 * @throws UserError for float16 on the CPU
 * @throws TypeError when `fn` returns a Promise
 */
export function autocast<T>({ dtype, device = "cpu" }: { dtype: Precision; device?: string }, fn: () => T): T {
  checkPrecision(dtype, device)
  native.enterAutocast(device, dtype)
  const before = current
  current = dtype
  try {
    const result = fn()
    if (result instanceof Promise) {
      result.catch(() => {}) // its own rejection would be reported as unhandled, hiding ours
      throw new TypeError("autocast() was given an async function; it must be synchronous.")
    }
    return result
  } finally {
    native.leaveAutocast()
    current = before
  }
}

let current: Precision = "float32"

/** That of the innermost autocast() that is running. */
export const currentPrecision = (): Precision => current

/** @throws UserError for a precision that the device does not have */
export function checkPrecision(precision: Precision, device: string): void {
  if (precision !== "float16" || device !== "cpu") return
  throw new UserError(
    "precision is float16, which libtorch computes on CUDA only, and the device is cpu; expected bfloat16 or float32.",
  )
}

/** What the user of a precision should know before waiting for it; null: nothing. */
export function precisionNotice(precision: Precision, device: string): string | null {
  if (precision !== "bfloat16" || device !== "cpu" || native.buildInfo().bfloat16 !== null) return null
  return "This processor has no instructions for bfloat16 (AVX-512-BF16 or AMX): it computes with it, but slower than with float32."
}
