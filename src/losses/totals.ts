// Sums over a batch of which each process has a part. A loss that is a function of such sums is that of the whole batch, whatever
// each process has of labelled pixels and classes: sums are added up over the processes first, and divided afterwards.
import { aten, type Tensor } from "../torch/index.ts"

/**
 * The sum over all processes of what each has summed up over its part, with a gradient: torch/group.ts's `sum`. Left out, this
 * process has the whole batch.
 */
export type Total = (own: Tensor) => Tensor

/**
 * sum / count over the whole batch; 0 where nothing counts, so that its sum is 0.
 * @param sum []
 * @param count [], whole numbers or weights
 */
export function quotient(sum: Tensor, count: Tensor, total?: Total): Tensor {
  if (total) {
    const both = total(aten.stack([sum, count.to({ dtype: sum.dtype })]))
    sum = both.at(0)
    count = both.at(1)
  }
  return sum.div(count.add(count.eq(0)))
}
