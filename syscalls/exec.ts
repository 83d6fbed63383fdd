/**
 * execve(2), execveat(2).
 */
import { E2BIG, EFAULT, EINVAL, ELOOP } from '../sentry/abi/errno.ts'
import { AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW } from '../sentry/abi/fcntl.ts'
import { execve, openExec } from '../sentry/kernel/exec.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import { LOOKUP_EMPTY, LOOKUP_FOLLOW, walkAt } from '../sentry/vfs/path-walk.ts'

/** Linux: MAX_ARG_STRINGS is 2^31 − 1; bounded here by the bytes that ARG_MAX allows. */
const MAX_STRINGS = 0xc0000
const MAX_ARG_STRLEN = 131072
const MAX_TOTAL = 6 * 1024 * 1024

const POINTERS = new Float64Array(1)
const POINTER_BYTES = new Uint8Array(4096)
const POINTER_VIEW = new DataView(POINTER_BYTES.buffer)

/** The page that the last string lay in: the strings of an environment lie side by side, and each look costs 5 µs. */
const PAGE_BYTES = new Uint8Array(4096)
const PAGE_TEXT = Buffer.from(PAGE_BYTES.buffer)
let pageAt = -1
let pageLength = 0

/** As Task.readString(), from the page in hand where the whole string is there. */
function readString(t: Task, addr: number): string | number {
  const at = addr % 4096
  if (addr - at !== pageAt) {
    pageAt = addr - at
    pageLength = t.copyIn(pageAt, PAGE_BYTES, 0, 4096)
  }
  const end = PAGE_BYTES.indexOf(0, at)
  return end >= 0 && end < pageLength ? PAGE_TEXT.latin1Slice(at, end) : t.readString(addr, MAX_ARG_STRLEN)
}

/** A NULL-terminated array of strings; a null pointer counts as empty, as Linux does. */
function readStrings(t: Task, addr: number): string[] | number {
  const strings: string[] = []
  if (addr === 0) return strings
  let total = 0
  pageAt = -1
  for (let at = addr; ; ) {
    const want = 4096 - (at % 4096)
    const got = t.copyIn(at, POINTER_BYTES, 0, want)
    const whole = got - (got % 8)
    if (whole === 0) {
      const one = t.readU64(at)
      if (one < 0) return -EFAULT
      POINTER_VIEW.setBigUint64(0, BigInt(one), true)
    }
    for (let i = 0; i < Math.max(whole, 8); i += 8) {
      POINTERS[0] = POINTER_VIEW.getUint32(i, true) + POINTER_VIEW.getUint32(i + 4, true) * 2 ** 32
      if (POINTERS[0] === 0) return strings
      const s = readString(t, POINTERS[0])
      if (typeof s === 'number') return s === -EFAULT ? s : -E2BIG
      total += s.length + 9
      if (total > MAX_TOTAL || strings.length >= MAX_STRINGS) return -E2BIG
      strings.push(s)
    }
    at += Math.max(whole, 8)
    // POINTER_BYTES is refilled, and readString does not use it.
  }
}

function exec(t: Task, dirfd: number, pathAddr: number, argvAddr: number, envpAddr: number, flags: number): SysRet {
  if ((flags & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW)) !== 0) return -EINVAL
  const path = t.readPath(pathAddr)
  if (typeof path === 'number') return path
  const argv = readStrings(t, argvAddr)
  if (typeof argv === 'number') return argv
  const envp = readStrings(t, envpAddr)
  if (typeof envp === 'number') return envp
  const follow = (flags & AT_SYMLINK_NOFOLLOW) === 0
  const lookup = (follow ? LOOKUP_FOLLOW : 0) | ((flags & AT_EMPTY_PATH) !== 0 ? LOOKUP_EMPTY : 0)
  const found = walkAt(t, dirfd, path, lookup)
  if (typeof found !== 'number' && !follow && found.inode.isSymlink) return -ELOOP
  const file = openExec(t, found)
  if (typeof file === 'number') return file
  let name = path
  if (dirfd !== AT_FDCWD && !path.startsWith('/')) name = `/dev/fd/${dirfd}${path === '' ? '' : `/${path}`}`
  return execve(t, file, name, argv, envp)
}

export function sysExecve(t: Task): SysRet {
  return exec(t, AT_FDCWD, t.argPtr(0), t.argPtr(1), t.argPtr(2), 0)
}

export function sysExecveat(t: Task): SysRet {
  return exec(t, t.argI32(0), t.argPtr(1), t.argPtr(2), t.argPtr(3), t.argI32(4))
}
