// The two kinds of tensors that a module owns. Both live until the module is disposed, whatever tidy() surrounds them.
import { findOperator } from "./dispatch.ts"
import { native } from "./native.ts"
import { Tensor } from "./tensor.ts"

/** A second handle to the same memory, without history. */
const share = (source: Tensor): number =>
  native.call(findOperator("aten::detach").id, source.handleFor("Parameter")) as number

/** A tensor that training changes. It shares memory with the tensor it is made of. */
export class Parameter extends Tensor {
  constructor(data: Tensor) {
    super(share(data))
    this.keep().requiresGrad_()
  }
}

/** State that belongs to a model but is not trained by gradients, such as running statistics: PyTorch's "buffer". */
export class StateBuffer extends Tensor {
  constructor(data: Tensor) {
    super(share(data))
    this.keep()
  }
}
