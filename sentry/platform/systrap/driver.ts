/**
 * What threads and address spaces need of the platform that they belong to. A sentry has one.
 */
import type { GuestThread, UsageSink } from '../platform.ts'
import type { SystrapThread } from './thread.ts'

interface Driver {
  /** control->names, ->roots, ->changes. */
  readonly names: Uint32Array
  /** Host threads that rest in all processes. */
  resting: number
  readonly endUsage: { expect(hostPid: number, sink: UsageSink): void }
  /** Lets a thread go on with the next wait. */
  resume(row: number): void
  /** At once, whoever waits for that. */
  resumeNow(): void
  /** The thread is gone; its row stays taken. */
  forget(thread: SystrapThread): void
  /** The thread's row may be used again. */
  retire(thread: SystrapThread): void
  isDirect(nr: number): boolean
  fork(parent: SystrapThread): GuestThread | number
  newThread(parent: SystrapThread): GuestThread | number
}

export let driver: Driver | null = null

export function setDriver(platform: Driver): void {
  driver = platform
}
