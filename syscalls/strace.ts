/**
 * Joins --strace with the system call table, which sentry/ does not know.
 */
import type { Kernel } from '../sentry/kernel/kernel.ts'
import { StraceTracer } from '../sentry/strace/tracer.ts'
import { SYSCALL_BY_NR } from './table.ts'

/** Writes a line for every guest call to `fd` from now on. */
export function startStrace(kernel: Kernel, fd: number): void {
  kernel.tracer = new StraceTracer(fd, SYSCALL_BY_NR)
}
