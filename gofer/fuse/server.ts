/**
 * The FUSE front end of a gofer: its requests, and what is agreed on when a connection begins. The loop is
 * guest/connection.ts.
 */
import type { Begin } from '../guest/connection.ts'
import { type Descriptors, exportMount } from '../guest/descriptors.ts'
import { ENOSYS, EPROTO } from '../request.ts'
import type { Resolver, ServedMount } from '../resolve.ts'
import * as data from './data.ts'
import * as directories from './directories.ts'
import * as entries from './entries.ts'
import { killPrivileges } from './entries.ts'
import * as locks from './locks.ts'
import * as names from './names.ts'
import type { Node } from './nodes.ts'
import { type Handler, type Request, Session, type Shared } from './session.ts'
import * as wire from './wire.ts'
import * as xattrs from './xattrs.ts'

const PAGE_SIZE = 4096
/** Requests under way that nobody waits for: reading ahead, writing back. */
const BACKGROUND = 64

/** Of an exclusive mount. */
const WANTED =
  wire.INIT_ASYNC_READ |
  wire.INIT_BIG_WRITES |
  wire.INIT_DO_READDIRPLUS |
  wire.INIT_READDIRPLUS_AUTO |
  wire.INIT_ASYNC_DIO |
  wire.INIT_PARALLEL_DIROPS |
  wire.INIT_MAX_PAGES |
  wire.INIT_CACHE_SYMLINKS |
  wire.INIT_NO_OPEN_SUPPORT |
  wire.INIT_NO_OPENDIR_SUPPORT
/** The guest's kernel gathers what is written, and says when to clear S_ISUID instead of asking for it at each write. */
const WANTED_TO_WRITE = wire.INIT_WRITEBACK_CACHE | wire.INIT_HANDLE_KILLPRIV_V2
/** Of a mount that others change: what is cached is compared with the host's at each read, and locks are the host's. */
const WANTED_SHARED =
  wire.INIT_ASYNC_READ |
  wire.INIT_BIG_WRITES |
  wire.INIT_ASYNC_DIO |
  wire.INIT_PARALLEL_DIROPS |
  wire.INIT_MAX_PAGES |
  wire.INIT_AUTO_INVAL_DATA |
  wire.INIT_ATOMIC_O_TRUNC |
  wire.INIT_POSIX_LOCKS |
  wire.INIT_FLOCK_LOCKS |
  wire.INIT_HANDLE_KILLPRIV_V2
/** Without these the kernel would open and close what nobody here keeps open for it. */
const NEEDED = wire.INIT_NO_OPEN_SUPPORT | wire.INIT_NO_OPENDIR_SUPPORT | wire.INIT_MAX_PAGES

function init(s: Session): number {
  const { r, w } = s
  const major = r.u32()
  const minor = r.u32()
  r.u32()
  const offered = r.u32()
  if (!r.ok || major < wire.MAJOR || (major === wire.MAJOR && minor < wire.OLDEST_MINOR)) return -EPROTO
  if (major === wire.MAJOR && !s.isShared && (offered & NEEDED) !== NEEDED) return -EPROTO
  s.reset()
  s.isReady = true
  const exclusive = s.exported.mount.readonly ? WANTED : WANTED | WANTED_TO_WRITE
  const wanted = s.isShared ? WANTED_SHARED : exclusive
  // A newer major version asks again, by ours.
  w.u32(wire.MAJOR).u32(Math.min(minor, wire.MINOR)).u32(wire.MAX_DATA)
  w.u32((offered & wanted) >>> 0)
  w.u16(BACKGROUND).u16(BACKGROUND).u32(wire.MAX_DATA).u32(1)
  w.u16(wire.MAX_DATA / PAGE_SIZE).u16(0)
  w.zeros(32)
  return 0
}

/** Of an exclusive mount only: the kernel then knows, and asks no more. */
const unlessShared =
  (run: Handler): Handler =>
  (s, node) =>
    s.isShared ? run(s, node) : -ENOSYS

function open(s: Session, node: Node): number {
  const flags = s.r.u32()
  const openFlags = s.r.u32()
  const handle = s.refuse() || s.handles.add(node, flags, s.exported.mount.readonly)
  if (handle < 0) return handle
  const kills = (openFlags & wire.OPEN_KILL_SUIDGID) !== 0 && !s.exported.mount.readonly
  if (kills) killPrivileges(s.handles.get(handle)!.fd)
  s.w.u64(handle).u32(0).u32(0)
  return 0
}

/** The directory is not lost when others rename it. */
function opendir(s: Session, node: Node): number {
  s.r.skip(8)
  const fd = s.directory(node)
  if (fd < 0) return fd
  s.w.zeros(16)
  return 0
}

function requests(): (Request | undefined)[] {
  const table: (Request | undefined)[] = []
  const add = (opcode: number, run: Handler, changes = false, silent = false): void => {
    table[opcode] = { run, changes, silent }
  }
  add(wire.INIT, init)
  add(wire.FORGET, entries.forget, false, true)
  add(wire.BATCH_FORGET, entries.batchForget, false, true)
  add(wire.LOOKUP, entries.lookup)
  add(wire.GETATTR, entries.getattr)
  add(wire.STATFS, entries.statfs)
  add(wire.READLINK, names.readlink)
  add(wire.READ, data.read)
  add(wire.LSEEK, data.lseek)
  add(wire.FSYNC, data.fsync)
  add(wire.FSYNCDIR, data.fsync)
  add(wire.READDIR, directories.readdir)
  add(wire.READDIRPLUS, directories.readdirplus)
  add(wire.GETXATTR, xattrs.getxattr)
  add(wire.LISTXATTR, xattrs.listxattr)
  add(wire.OPEN, unlessShared(open))
  add(wire.OPENDIR, unlessShared(opendir))
  add(wire.FLUSH, unlessShared(locks.flush))
  add(wire.INTERRUPT, unlessShared(locks.interrupt))
  add(wire.RELEASE, locks.release)
  add(wire.GETLK, unlessShared(locks.getlk))
  add(wire.SETLK, unlessShared(locks.setlk))
  add(wire.SETLKW, unlessShared(locks.setlkw))
  for (const opcode of [wire.RELEASEDIR, wire.DESTROY]) add(opcode, () => 0)
  const changing: [number, Handler][] = [
    [wire.SETATTR, entries.setattr],
    [wire.CREATE, names.create],
    [wire.TMPFILE, names.tmpfile],
    [wire.MKDIR, names.mkdir],
    [wire.MKNOD, names.mknod],
    [wire.SYMLINK, names.symlink],
    [wire.LINK, names.link],
    [wire.UNLINK, names.unlink],
    [wire.RMDIR, names.rmdir],
    [wire.RENAME, names.rename],
    [wire.RENAME2, names.rename2],
    [wire.WRITE, data.write],
    [wire.FALLOCATE, data.fallocate],
    [wire.COPY_FILE_RANGE, data.copy],
    [wire.SETXATTR, xattrs.setxattr],
    [wire.REMOVEXATTR, xattrs.removexattr],
  ]
  for (const [opcode, run] of changing) add(opcode, run, true)
  return table
}

/** Sessions, each of a mount. The working directory is /proc/self/fd already. */
export function fuseSessions(resolver: Resolver, descriptors: Descriptors): (mount: ServedMount) => Begin {
  const shared: Shared = { resolver, descriptors, requests: requests() }
  return (mount) => {
    const exported = exportMount(mount)
    return (input, output) => new Session(shared, exported, input, output)
  }
}
