/**
 * What one line of the system call table is.
 */
import type { SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'

export type Handler = (t: Task) => SysRet
export type Support = 'full' | 'partial' | 'none'

export interface Syscall {
  readonly nr: number
  readonly name: string
  readonly support: Support
  /** null: ENOSYS, logged once. */
  readonly handler: Handler | null
  /**
   * Arguments for --strace and documents: 'kind name, …'; never used in the hot path. A digit behind a kind is the index
   * of the argument that holds its length or count; a kind that ends in '>' is filled by the call.
   */
  readonly signature: string
  readonly note: string
}

/** Every documented behaviour is there. */
export const full = (nr: number, name: string, handler: Handler, signature = ''): Syscall => ({
  nr,
  name,
  support: 'full',
  handler,
  signature,
  note: '',
})
/** Useful, with the gap in the note. */
export const partial = (nr: number, name: string, handler: Handler, signature: string, note: string): Syscall => ({
  nr,
  name,
  support: 'partial',
  handler,
  signature,
  note,
})
/** Not implemented: ENOSYS, or what Linux says without the feature when there is a handler. */
export const none = (nr: number, name: string, signature = '', note = '', handler: Handler | null = null): Syscall => ({
  nr,
  name,
  support: 'none',
  handler,
  signature,
  note,
})
