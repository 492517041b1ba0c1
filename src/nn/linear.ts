// The layer that joins every input with every output.
import { aten, Parameter, type Tensor, zeros } from "../torch/index.ts"
import * as init from "./init.ts"
import { Module } from "./module.ts"

/** x [..., inFeatures] -> x weight^T + bias [..., outFeatures] */
export class Linear extends Module {
  readonly weight: Parameter // [outFeatures, inFeatures]
  readonly bias: Parameter | null // [outFeatures]

  constructor(inFeatures: number, outFeatures: number, { bias = true } = {}) {
    super()
    this.weight = new Parameter(zeros([outFeatures, inFeatures]))
    this.bias = bias ? new Parameter(zeros([outFeatures])) : null
    init.torchDefault_(this.weight, this.bias)
  }

  protected override forward(x: Tensor): Tensor {
    return aten.linear(x, this.weight, { bias: this.bias })
  }
}
