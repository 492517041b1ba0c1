// What goes wrong in the tensor layer. All are Errors; none ends the process.

/** An operator refused its arguments. The message names the operator, its arguments, and libtorch's reason; `cause` has libtorch's full text. */
export class OpError extends Error {
  override name = "OpError"
}

/** A tensor was used after dispose(), or after the tidy() that owned it ended. */
export class DisposedError extends Error {
  override name = "DisposedError"
}

/** Sizes that do not fit together, found before libtorch was asked. */
export class ShapeError extends Error {
  override name = "ShapeError"
}
