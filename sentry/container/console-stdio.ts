/**
 * The terminal of a process that was started with `terminal: true`: a console of the sentry over a host terminal.
 */
import { type Console, createConsole, openConsole } from '../fs/tty/console.ts'
import { rootCredentials } from '../kernel/credentials.ts'
import type { Task } from '../kernel/task.ts'
import type { Dentry } from '../vfs/dentry.ts'
import { S_IFREG } from '../vfs/inode.ts'
import { Mount } from '../vfs/mount.ts'
import { LOOKUP_DIRECTORY, LOOKUP_FOLLOW, lookupChild, walk } from '../vfs/path-walk.ts'

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
  if (system && file.path !== null) bindConsole(t, file.path.mount, file.path.dentry)
  return tty
}

/** Mounts the terminal's node on /dev/console, as other runtimes do. Without a writable /dev there is none. */
function bindConsole(t: Task, pts: Mount, node: Dentry): void {
  const dev = walk(t, '/dev', LOOKUP_FOLLOW | LOOKUP_DIRECTORY)
  if (typeof dev === 'number') return
  let place = lookupChild(dev.dentry, 'console')
  if (typeof place === 'number') return
  if (place.inode === null) {
    const made = dev.inode.create('console', S_IFREG | 0o666, rootCredentials())
    if (typeof made === 'number') return
    place = dev.dentry.add('console', made)
  }
  const namespace = t.fs.namespace
  if (namespace.mountedAt(dev.mount, place) !== undefined) return
  namespace.attach(new Mount(pts.sb, node, pts.flags), dev.mount, place)
}
