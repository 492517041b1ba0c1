// Module: a part of a network that owns parameters, buffers and further modules. Whatever a field holds belongs to it,
// under the field's name: that is how checkpoints get their keys ("encoder.layer1.0.conv1.weight").
import { UserError } from "../errors.ts"
import {
  type DType,
  isFloating,
  isProfiling,
  isRecording,
  type MemoryFormat,
  noGrad,
  Parameter,
  profileCall,
  recordCall,
  StateBuffer,
  type Tensor,
  tidy,
} from "../torch/index.ts"
import { stateDictProblems } from "./state-dict-problems.ts"

// biome-ignore lint/suspicious/noExplicitAny: a child may take and return anything
export type AnyModule = Module<any, any>

export abstract class Module<Input extends readonly unknown[] = [Tensor], Output = Tensor> implements Disposable {
  /** Whether batch-norm uses the batch's statistics and dropout drops. Set by train() and eval(). */
  training = true

  /** What the module computes. Return fresh tensors, also when nothing changes (`x.alias()`). */
  protected abstract forward(...input: Input): Output

  /** Runs forward() and frees what it made except its result. */
  call(...input: Input): Output {
    if (isRecording()) return tidy(() => recordCall(this, () => this.forward(...input)))
    if (isProfiling()) return profileCall(this, () => tidy(() => this.forward(...input)))
    return tidy(() => this.forward(...input))
  }

  // --- what it owns ---------------------------------------------------------------------------------------

  /** The modules directly inside, by name. An array's modules are named "field.0", "field.1", ... */
  *children(): Iterable<[string, AnyModule]> {
    for (const [name, value] of Object.entries(this)) {
      if (value instanceof Module) yield [name, value]
      else if (Array.isArray(value)) {
        for (const [k, element] of value.entries()) if (element instanceof Module) yield [`${name}.${k}`, element]
      }
    }
  }

  /** This module ("" or the given prefix) and all below it, each before its children. */
  *namedModules(prefix = ""): Iterable<[string, AnyModule]> {
    yield [prefix, this]
    for (const [name, child] of this.children()) yield* child.namedModules(join(prefix, name))
  }

  /** A parameter that two modules share comes once, under its first name, so that an optimizer steps it once. */
  *namedParameters(): Iterable<[string, Parameter]> {
    yield* this.#named(Parameter)
  }

  *namedBuffers(): Iterable<[string, StateBuffer]> {
    yield* this.#named(StateBuffer)
  }

  *#named<T extends Parameter | StateBuffer>(kind: new (data: Tensor) => T): Iterable<[string, T]> {
    const seen = new Set<T>()
    for (const [prefix, module] of this.namedModules()) {
      for (const [name, value] of Object.entries(module)) {
        if (!(value instanceof kind) || seen.has(value)) continue
        seen.add(value)
        yield [join(prefix, name), value]
      }
    }
  }

  parameters(): Parameter[] {
    return Array.from(this.namedParameters(), ([, parameter]) => parameter)
  }

  // --- state ----------------------------------------------------------------------------------------------

  /** Parameters and buffers by name, in PyTorch's order. The tensors are the module's own, not copies. */
  stateDict(): Map<string, Tensor> {
    const state = new Map<string, Tensor>()
    for (const [prefix, module] of this.namedModules()) {
      const own = Object.entries(module)
      for (const kind of [Parameter, StateBuffer]) {
        for (const [name, value] of own) if (value instanceof kind) state.set(join(prefix, name), value)
      }
    }
    return state
  }

  /**
   * Copies values into parameters and buffers, converting their dtype. Nothing is changed when anything does not fit; but
   * num_batches_tracked may be missing, as in older and converted files.
   * @throws UserError listing missing, unexpected and misshapen keys, with the names that may be meant
   */
  loadStateDict(state: ReadonlyMap<string, Tensor>): this {
    const own = this.stateDict()
    const problems = stateDictProblems(own, state)
    if (problems) throw new UserError(`The state dict does not fit ${this.constructor.name}: ${problems}`)
    using _ = noGrad()
    for (const [name, tensor] of own) {
      const given = state.get(name)
      if (given) tensor.copy_(given)
    }
    return this
  }

  // --- modes ----------------------------------------------------------------------------------------------

  train(training = true): this {
    for (const [, module] of this.namedModules()) {
      module.training = training
      module.forget()
    }
    return this
  }

  eval(): this {
    return this.train(false)
  }

  /** Freezes (false) or thaws all parameters. */
  requiresGrad_(requiresGrad = true): this {
    for (const parameter of this.parameters()) parameter.requiresGrad_(requiresGrad)
    return this
  }

  zeroGrad(): void {
    for (const parameter of this.parameters()) parameter.grad = null
  }

  /**
   * Moves parameters and buffers to another device, in place, and the floating-point ones to another dtype; those of four
   * axes take the memory format. Gradients are forgotten.
   */
  to({ dtype, device, memoryFormat }: { dtype?: DType; device?: string; memoryFormat?: MemoryFormat }): this {
    for (const [, module] of this.namedModules()) module.forget()
    tidy(() => {
      using _ = noGrad()
      for (const value of new Set(this.stateDict().values())) {
        value.grad = null
        const moved = value.to({ device, dtype: isFloating(value.dtype) ? dtype : undefined })
        value.setData(memoryFormat && value.ndim === 4 ? moved.contiguous({ memoryFormat }) : moved)
      }
    })
    return this
  }

  /** Frees all parameters and buffers. */
  dispose(): void {
    for (const [, module] of this.namedModules()) module.forget()
    for (const tensor of this.stateDict().values()) tensor.dispose()
  }

  /** Frees what this module, without its children, keeps of its parameters in another form. */
  forget(): void {}

  [Symbol.dispose](): void {
    this.dispose()
  }
}

const join = (prefix: string, name: string): string => (prefix ? `${prefix}.${name}` : name)
