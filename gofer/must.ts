/**
 * Start-up's way with errors: what fails ends the gofer with a message that names the step. Serving never uses it.
 */
import { getSystemErrorMap } from 'node:util'

const ENOSYS = 38

export function must(what: string, result: number): number {
  if (result >= 0) return result
  throw new Error(`${what}: ${getSystemErrorMap().get(result)?.[1] ?? `error ${-result}`}`)
}

export const isENOSYS = (result: number): boolean => result === -ENOSYS
