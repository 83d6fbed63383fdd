/**
 * A task that is only a root, a working directory and credentials, for tests of the VFS without a guest.
 */

import { AT_FDCWD, O_CREAT, O_RDONLY, O_WRONLY } from '../../sentry/abi/fcntl.ts'
import { TmpfsSuperBlock } from '../../sentry/fs/tmpfs/super-block.ts'
import { type Credentials, rootCredentials } from '../../sentry/kernel/credentials.ts'
import type { Task } from '../../sentry/kernel/task.ts'
import { KernelIovIter } from '../../sentry/mm/iov-iter.ts'
import type { FileDescription } from '../../sentry/vfs/file-description.ts'
import { FsContext } from '../../sentry/vfs/fs-context.ts'
import { Mount, MountNamespace } from '../../sentry/vfs/mount.ts'
import { openAt } from '../../sentry/vfs/open.ts'
import { Path } from '../../sentry/vfs/path.ts'
import { walk } from '../../sentry/vfs/path-walk.ts'
import type { SuperBlock } from '../../sentry/vfs/super-block.ts'

export function tmpfs(options: Partial<ConstructorParameters<typeof TmpfsSuperBlock>[0]> = {}): TmpfsSuperBlock {
  return new TmpfsSuperBlock({ size: 0, inodes: 0, mode: 0o755, uid: 0, gid: 0, ...options })
}

/** A task whose root is `sb`. */
export function taskOn(sb: SuperBlock, creds: Credentials = rootCredentials()): Task {
  const mount = new Mount(sb, sb.rootDentry, 0)
  const root = new Path(mount, mount.root)
  const fs = new FsContext(new MountNamespace(mount), root, root, 0o022)
  const files = new Map<number, FileDescription>()
  return { fs, creds, fds: { get: (fd: number) => files.get(fd), files }, signalPending: false } as unknown as Task
}

/** The same tree seen by somebody else. */
export function as(t: Task, uid: number, gid = uid): Task {
  const none = { lo: 0, hi: 0 }
  const creds = rootCredentials().with({
    uid,
    gid,
    euid: uid,
    egid: gid,
    fsuid: uid,
    fsgid: gid,
    effective: none,
    permitted: none,
  })
  return { ...t, creds } as unknown as Task
}

export function open(t: Task, name: string, flags = O_RDONLY, mode = 0o644): FileDescription {
  const file = openAt(t, AT_FDCWD, name, flags, mode)
  if (typeof file === 'number') throw new Error(`open ${name}: ${file}`)
  return file
}

export function write(t: Task, name: string, text: string, flags = O_CREAT | O_WRONLY): void {
  const file = open(t, name, flags)
  const bytes = Buffer.from(text, 'latin1')
  const n = file.write(t, new KernelIovIter(bytes), 0)
  file.unref()
  if (n !== bytes.length) throw new Error(`write ${name}: ${n}`)
}

export function readAll(t: Task, file: FileDescription): string {
  const buffer = Buffer.alloc(1 << 20)
  const n = file.read(t, new KernelIovIter(buffer), 0)
  return n < 0 ? `errno ${-n}` : buffer.latin1Slice(0, n)
}

export function read(t: Task, name: string): string {
  const file = open(t, name)
  const text = readAll(t, file)
  file.unref()
  return text
}

/** Names in a directory, in order, without '.' and '..'. `pause` is called between batches of two. */
export function list(t: Task, name: string, pause: () => void = () => {}): string[] {
  const dir = open(t, name)
  const names: string[] = []
  for (;;) {
    let room = 2
    const before = names.length
    dir.readdir(t, {
      emit: (entry) => {
        if (room-- === 0) return false
        names.push(entry)
        return true
      },
    })
    if (names.length === before) break
    pause()
  }
  dir.unref()
  return names.filter((n) => n !== '.' && n !== '..')
}

/** The inode behind a name; a negative number when there is none. */
export function ino(t: Task, name: string): number {
  const path = walk(t, name, 1)
  return typeof path === 'number' ? path : path.inode.ino
}
