/**
 * The terminal of a process that was started with `terminal: true`: a console of the sentry over a host terminal.
 */
import { type Console, createConsole, openConsole } from '../fs/tty/console.ts'
import type { Task } from '../kernel/task.ts'

interface Size {
  rows: number
  cols: number
}

/** Makes the host terminal `hostFd` (taken over) the descriptors 0, 1 and 2 of `t` and its controlling terminal. `system`: it is init's. */
export function attachConsole(t: Task, hostFd: number, size: Size, system: boolean): Console {
  const tty = createConsole(t.kernel, hostFd, t.fs.namespace, t.creds, size.rows, size.cols, system)
  const file = openConsole(t, tty)
  t.fds.install(file, false, 1024)
  t.fds.install(file.ref(), false, 1024)
  t.fds.install(file.ref(), false, 1024)
  return tty
}
