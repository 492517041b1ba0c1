// stub
export type Guard = (...args: unknown[]) => string | undefined
export function guardOf(_fullName: string): Guard | undefined {
  return undefined
}
