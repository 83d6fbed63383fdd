/**
 * The terminal of a process that was started with `terminal: true`: a console of the sentry over a host terminal.
 */
import { type Console, createConsole, openConsole } from '../fs/tty/console.ts'
import type { Task } from '../kernel/task.ts'

/** Makes the host terminal `hostFd` (taken over) the descriptors 0, 1 and 2 of `t` and its controlling terminal. */
export function attachConsole(t: Task, hostFd: number, size: { rows: number; cols: number }): Console {
  const tty = createConsole(t.kernel, hostFd, t.fs.namespace, t.creds, size.rows, size.cols)
  const file = openConsole(t, tty)
  t.fds.install(file, false, 1024)
  t.fds.install(file.ref(), false, 1024)
  t.fds.install(file.ref(), false, 1024)
  return tty
}
