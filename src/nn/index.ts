// Layers, their initial values, and the functions between them.
export * from "./conv.ts"
export * from "./functional.ts"
export * as init from "./init.ts"
export { type AnyModule, Module } from "./module.ts"
export * from "./norm.ts"
export { Sequential } from "./sequential.ts"
export * from "./simple.ts"
