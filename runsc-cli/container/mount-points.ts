/**
 * Makes missing mount points in a root file system before the gofer gets it (read-only, perhaps), as runc does. The
 * tree may be hostile: each step is resolved by the kernel as if the root were `/` (RESOLVE_IN_ROOT), and the new name
 * is made relative to the directory that was found, so no symbolic link leads out.
 */
import { closeSync, constants, openSync } from 'node:fs'
import { posix } from 'node:path'
import { close, cstr, openat, raw } from '../../native/host.ts'
import type { MountSpec } from '../../sentry/control/protocol.ts'

const O_PATH = 0o10000000
const O_CLOEXEC = 0o2000000
const RESOLVE_IN_ROOT = 0x10
const RESOLVE_NO_MAGICLINKS = 0x02
const ENOENT = 2

function openInRoot(root: number, path: string): number {
  const how = Buffer.alloc(24)
  how.writeUInt32LE(O_PATH | O_CLOEXEC, 0)
  how.writeUInt32LE(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS, 16)
  return raw.LPP(437, root, cstr(path), how, how.length, 0, 0)
}

/** Best effort: what cannot be made (a read-only tree, a file in the way) is the sentry's to report when it mounts. */
function ensure(root: number, path: string, isFile: boolean): void {
  const parts = path.split('/').filter(Boolean)
  for (let i = 1; i <= parts.length; i++) {
    const fd = openInRoot(root, parts.slice(0, i).join('/'))
    if (fd >= 0) {
      close(fd)
      continue
    }
    if (fd !== -ENOENT) return
    const parent = i === 1 ? openInRoot(root, '.') : openInRoot(root, parts.slice(0, i - 1).join('/'))
    if (parent < 0) return
    const name = parts[i - 1]!
    let made: number
    if (isFile && i === parts.length) {
      made = openat(parent, name, constants.O_CREAT | constants.O_EXCL | constants.O_WRONLY | O_CLOEXEC, 0o644)
      if (made >= 0) close(made)
    } else {
      made = raw.LP(258, parent, cstr(name), 0o755, 0, 0, 0)
    }
    close(parent)
    if (made < 0) return
  }
}

/** Mount points below an earlier mount belong to that file system and are the sentry's to make. */
export function ensureMountPoints(rootfs: string, mounts: readonly MountSpec[]): void {
  const root = openSync(rootfs, constants.O_RDONLY | constants.O_DIRECTORY)
  const covered: string[] = []
  for (const { destination, isFile } of mounts) {
    const at = posix.normalize(destination)
    if (!covered.some((c) => at === c || at.startsWith(c === '/' ? c : `${c}/`))) ensure(root, at, isFile)
    covered.push(at)
  }
  closeSync(root)
}
