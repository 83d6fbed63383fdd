/**
 * Host calls by which a process gives up what it does not need: mounts, root, capabilities, system calls. Each returns
 * ≥ 0 or −errno.
 */
import { cstr, raw } from './host.ts'
import { AT_FDCWD, AT_RECURSIVE, HostMemory } from './host-files.ts'
import { libhost } from './library.ts'

const { L, P, PP, PPPLP, LPLP } = raw

export const MS_RDONLY = 1
export const MS_NOSUID = 2
export const MS_NODEV = 4
export const MS_NOEXEC = 8
export const MS_REMOUNT = 32
export const MS_BIND = 4096
export const MS_REC = 16384
export const MS_PRIVATE = 1 << 18
export const MNT_DETACH = 2
export const MOUNT_ATTR_RDONLY = 1
export const MOUNT_ATTR_NOSUID = 2
export const MOUNT_ATTR_NODEV = 4

export const mount = (source: string, target: string, type: string, flags: number, data: string): number =>
  PPPLP(165, cstr(source), cstr(target), cstr(type), flags, cstr(data), 0)
export const umount2 = (target: string, flags: number): number => P(166, cstr(target), flags, 0, 0, 0, 0)
export const pivotRoot = (newRoot: string, putOld: string): number => PP(155, cstr(newRoot), cstr(putOld), 0, 0, 0, 0)
export const chdir = (path: string): number => P(80, cstr(path), 0, 0, 0, 0, 0)
export const umask = (mask: number): number => L(95, mask, 0, 0, 0, 0, 0)
export const prctl = (option: number, arg: number): number => L(157, option, arg, 0, 0, 0, 0)
/** Ends the process after its 'exit' handlers. Node's own way makes calls that filters take for an intrusion (io_uring). */
export function exitGroup(status: number): void {
  process.emit('exit', status)
  L(231, status, 0, 0, 0, 0, 0)
}
export const PR_SET_DUMPABLE = 4
export const PR_SET_NO_NEW_PRIVS = 38

/** mount_setattr(2) of a path: sets attributes, and makes the mounts private. */
export function mountSetattr(path: string, recursive: boolean, set: number): number {
  const attr = Buffer.alloc(32)
  attr.writeUInt32LE(set, 0)
  attr.writeUInt32LE(MS_PRIVATE, 16)
  return LPLP(442, AT_FDCWD, cstr(path), recursive ? AT_RECURSIVE : 0, attr, attr.length, 0)
}

const capsetAllThreads = libhost.func('host_capset_all_threads', 'long', ['int', 'uint32', 'uint32', 'int']) as (
  taskFd: number,
  low: number,
  high: number,
  id: number,
) => number

/**
 * Permitted and effective capabilities of every thread: exactly these. Takes over an open /proc/self/task. `id`: the user
 * and group to become, with these as the bounding set too; −1: neither changes.
 */
export function keepCapabilities(taskFd: number, capabilities: readonly number[], id = -1): number {
  let low = 0
  let high = 0
  for (const c of capabilities) {
    if (c < 32) low |= 1 << c
    else high |= 1 << (c - 32)
  }
  return capsetAllThreads(taskFd, low >>> 0, high >>> 0, id)
}

const SECCOMP_SET_MODE_FILTER = 1
const SECCOMP_FILTER_FLAG_TSYNC = 1
const ESRCH = 3

/** Installs a filter of native/seccomp.ts on all threads, for good. Needs no_new_privs. */
export function installFilter(filter: Uint8Array): number {
  const memory = new HostMemory(filter.length)
  memory.bytes.set(filter)
  const program = new HostMemory(16)
  program.view.setUint16(0, filter.length / 8, true)
  program.view.setBigUint64(8, BigInt(memory.address), true)
  const result = L(317, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, program.address, 0, 0, 0)
  // A positive result is the thread that could not be brought along.
  return result > 0 ? -ESRCH : result
}
