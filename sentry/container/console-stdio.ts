/**
 * The terminal of a process that was started with `terminal: true`: a console of the sentry over a host terminal.
 */
import type { ControllingTty } from '../kernel/process-group.ts'
import type { Kernel } from '../kernel/kernel.ts'
import type { Task } from '../kernel/task.ts'
import { openHostStdio } from '../fs/host/stdio.ts'

export interface ConsoleHandle {
  readonly tty: Pick<ControllingTty, 'foreground'>
  readonly hostFd: number
  resize(rows: number, cols: number): void
}

/** `hostFd` is a host terminal; taken over. */
export function openConsole(_kernel: Kernel, hostFd: number, _size: { rows: number; cols: number }): ConsoleHandle {
  return { tty: { foreground: null }, hostFd, resize: () => {} }
}

/** Makes the console descriptors 0, 1 and 2 of `t` and its controlling terminal. */
export function attachConsole(t: Task, console: ConsoleHandle): void {
  const file = openHostStdio(t.kernel, console.hostFd)
  t.fds.install(file, false, 1024)
  t.fds.install(file.ref(), false, 1024)
  t.fds.install(file.ref(), false, 1024)
}
