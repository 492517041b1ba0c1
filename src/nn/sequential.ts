// Modules one after another. Children are named "0", "1", ... as in PyTorch.
import type { Tensor } from "../torch/index.ts"
import { chain } from "./chain.ts"
import { Module } from "./module.ts"

export class Sequential extends Module {
  readonly modules: readonly Module[]

  constructor(...modules: Module[]) {
    super()
    this.modules = modules
  }

  override *children(): Iterable<[string, Module]> {
    for (const [k, module] of this.modules.entries()) yield [String(k), module]
  }

  protected override forward(x: Tensor): Tensor {
    return chain(x, ...this.modules)
  }
}
