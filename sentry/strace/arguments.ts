/**
 * Argument kinds: from a signature to functions that show one argument.
 */
import type { Task } from '../kernel/task.ts'
import * as decode from './decode.ts'
import {
  cloneFlags,
  enumeration,
  fdFlags,
  flags,
  hex,
  mmapFlags,
  namespaceFlags,
  openFlags,
  SETS,
  signalName,
} from './flags.ts'

export interface Argument {
  /** Filled by the call: shown when it has returned. */
  readonly output: boolean
  /** Shows argument `i`; `ret` is the result for outputs (negative: it failed, show the address). null: left out. */
  readonly show: (t: Task, i: number, ret: number) => string | null
}

type Show = Argument['show']

const AT_FDCWD = -100
const O_CREAT = 0o100
const O_TMPFILE = 0o20000000
const MSG_NAME_MAX = 128

/** Show functions by kind; `n` is the digit behind the kind. */
const KINDS: Record<string, (n: number) => Show> = {
  int: () => (t, i) => String(t.argI32(i)),
  fd: () => (t, i) => String(t.argI32(i)),
  dirfd: () => (t, i) => (t.argI32(i) === AT_FDCWD ? 'AT_FDCWD' : String(t.argI32(i))),
  u32: () => (t, i) => String(t.argU32(i)),
  u64: () => (t, i) => String(t.argPtr(i)),
  size: () => (t, i) => String(t.argPtr(i)),
  off: () => (t, i) => String(t.argI64(i)),
  hex: () => (t, i) => (t.argPtr(i) === 0 ? '0' : hex(t.argPtr(i))),
  ptr: () => (t, i) => decode.pointer(t.argPtr(i)),
  mode: () => (t, i) => decode.octal(t.argU32(i) & 0o177777),
  open_mode: () => (t, i) =>
    (t.argU32(i - 1) & (O_CREAT | O_TMPFILE)) !== 0 ? decode.octal(t.argU32(i) & 0o177777) : null,
  path: () => (t, i) => decode.string(t, t.argPtr(i), true),
  str: () => (t, i) => decode.string(t, t.argPtr(i), false),
  cstr: () => (t, i) => decode.string(t, t.argPtr(i), true),
  buf: (n) => (t, i, ret) => decode.buffer(t, t.argPtr(i), n >= 0 ? t.argPtr(n) : ret),
  argv: () => (t, i) => decode.stringVector(t, t.argPtr(i)),
  envp: () => (t, i) => decode.environment(t, t.argPtr(i)),
  open_flags: () => (t, i) => openFlags(t.argU32(i)),
  fd_flags: () => (t, i) => fdFlags(t.argU32(i)),
  mmap_flags: () => (t, i) => mmapFlags(t.argU32(i)),
  clone_flags: () => (t, i) => cloneFlags(t.argU32(i)),
  ns_flags: () => (t, i) => namespaceFlags(t.argU32(i)),
  signal: () => (t, i) => signalName(t.argI32(i)),
  sigset: (n) => (t, i) => decode.signalSet(t, t.argPtr(i), t.argPtr(n)),
  sigaction: () => (t, i) => decode.sigaction(t, t.argPtr(i)),
  siginfo: () => (t, i) => decode.siginfo(t, t.argPtr(i)),
  timespec: () => (t, i) => decode.timespec(t, t.argPtr(i)),
  timespecs: () => (t, i) => {
    const addr = t.argPtr(i)
    return addr === 0 ? 'NULL' : `[${decode.timespec(t, addr)}, ${decode.timespec(t, addr + 16)}]`
  },
  timeval: () => (t, i) => decode.timeval(t, t.argPtr(i)),
  itimerval: () => (t, i) => decode.itimerval(t, t.argPtr(i)),
  itimerspec: () => (t, i) => decode.itimerspec(t, t.argPtr(i)),
  rlimit: () => (t, i) => decode.rlimit(t, t.argPtr(i)),
  stat: () => (t, i) => decode.stat(t, t.argPtr(i)),
  statx: () => (t, i) => decode.statx(t, t.argPtr(i)),
  fdpair: () => (t, i) => decode.fdPair(t, t.argPtr(i)),
  int_ptr: () => (t, i) => decode.int32(t, t.argPtr(i)),
  int32p: () => (t, i) => decode.int32(t, t.argPtr(i)),
  off_ptr: () => (t, i) => decode.int64(t, t.argPtr(i)),
  wait_status: () => (t, i, ret) => (ret === 0 ? decode.pointer(t.argPtr(i)) : decode.waitStatus(t, t.argPtr(i))),
  utsname: () => (t, i) => decode.utsname(t, t.argPtr(i)),
  dirents: () => (t, i, ret) => `${decode.pointer(t.argPtr(i))} /* ${ret} bytes of entries */`,
  sock_type: () => (t, i) => decode.sockType(t.argI32(i)),
  sock_flags: () => (t, i) => (t.argI32(i) === 0 ? '0' : decode.sockType(t.argI32(i)).replace(/^0x0[^|]*\|/, '')),
  sockaddr: (n) => (t, i) => decode.sockaddr(t, t.argPtr(i), t.argI32(n)),
  sockaddrp: (n) => (t, i) => {
    const len = t.argPtr(n) === 0 ? 0 : t.readU32(t.argPtr(n))
    return decode.sockaddr(t, t.argPtr(i), Math.min(len, MSG_NAME_MAX))
  },
  so_name: () => (t, i) => {
    const set = SETS['so_option']!
    return t.argI32(i - 1) === 1 ? enumeration(set.table, t.argI32(i), set.what) : hex(t.argU32(i))
  },
  sockopt: (n) => (t, i) =>
    t.argI32(n) === 4 ? decode.int32(t, t.argPtr(i)) : decode.buffer(t, t.argPtr(i), t.argI32(n)),
  sockoptp: (n) => (t, i) => {
    const len = t.readU32(t.argPtr(n))
    return len === 4 ? decode.int32(t, t.argPtr(i)) : decode.buffer(t, t.argPtr(i), len)
  },
  iov: (n) => (t, i, ret) => decode.iovec(t, t.argPtr(i), t.argI32(n), ret >= 0 ? ret : Number.POSITIVE_INFINITY),
  msghdr: () => (t, i, ret) => decode.msghdr(t, t.argPtr(i), ret >= 0 ? ret : Number.POSITIVE_INFINITY),
  pollfds: (n) => (t, i) => decode.pollFds(t, t.argPtr(i), t.argU32(n), false),
  fdset: (n) => (t, i) => decode.fdSet(t, t.argPtr(i), t.argI32(n)),
  epoll_events: () => (t, i, ret) => decode.epollEvents(t, t.argPtr(i), ret),
  epoll_event: () => (t, i) => decode.epollEvent(t, t.argPtr(i)),
  clone_args: () => (t, i) => decode.cloneArgs(t, t.argPtr(i), cloneFlags),
  open_how: () => (t, i) => decode.openHow(t, t.argPtr(i), openFlags),
  fcntl_arg: () => fcntlArgument,
  ioctl_arg: () => ioctlArgument,
  futex_op: () => (t, i) => {
    const op = t.argU32(i)
    const set = SETS['futex_cmd']!
    const bits = `${(op & 128) !== 0 ? '_PRIVATE' : ''}${(op & 256) !== 0 ? '|FUTEX_CLOCK_REALTIME' : ''}`
    return enumeration(set.table, op & 127, set.what) + bits
  },
  futex_timeout: () => (t, i) =>
    [0, 6, 9, 11, 13].includes(t.argU32(1) & 127) ? decode.timespec(t, t.argPtr(i)) : decode.pointer(t.argPtr(i)),
}

const F_DUPFD = 0
const F_GETFD = 1
const F_SETFD = 2
const F_GETFL = 3
const F_SETFL = 4
const LOCK_COMMANDS = [5, 6, 7, 36, 37, 38]

const fcntlArgument: Show = (t, i) => {
  const cmd = t.argI32(1)
  if (cmd === F_GETFD || cmd === F_GETFL || cmd === 9 || cmd === 11 || cmd === 1025 || cmd === 1032 || cmd === 1034)
    return null
  if (cmd === F_SETFD) return t.argI32(i) === 1 ? 'FD_CLOEXEC' : String(t.argI32(i))
  if (cmd === F_SETFL) return openFlags(t.argU32(i))
  if (LOCK_COMMANDS.includes(cmd)) return decode.flock(t, t.argPtr(i))
  return cmd === F_DUPFD || cmd === 1030 ? String(t.argI32(i)) : hex(t.argPtr(i))
}

const TIOCGPGRP = 0x540f
const TIOCSPGRP = 0x5410
const TIOCGWINSZ = 0x5413
const TIOCSWINSZ = 0x5414
const FIONREAD = 0x541b
const FIONBIO = 0x5421

const ioctlArgument: Show = (t, i) => {
  const addr = t.argPtr(i)
  switch (t.argU32(1)) {
    case TIOCGWINSZ:
    case TIOCSWINSZ:
      return decode.winsize(t, addr)
    case TIOCGPGRP:
    case TIOCSPGRP:
    case FIONREAD:
    case FIONBIO:
      return decode.int32(t, addr)
    default:
      return decode.pointer(addr)
  }
}

/** The arguments of a signature. Unknown kinds show as numbers. */
export function parseSignature(signature: string): Argument[] {
  if (signature === '') return []
  return signature.split(',').map((part) => {
    const word = part.trim().split(' ')[0]!
    const output = word.endsWith('>')
    const m = /^(.*?)(\d?)$/.exec(output ? word.slice(0, -1) : word)!
    const whole = output ? word.slice(0, -1) : word
    const exact = KINDS[whole] !== undefined
    const kind = exact ? whole : m[1]!
    const n = exact || m[2] === '' ? -1 : Number(m[2])
    return { output, show: showOf(kind, n, output) }
  })
}

function showOf(kind: string, n: number, output: boolean): Show {
  const make = KINDS[kind]
  const set = SETS[kind]
  let show: Show
  if (make !== undefined) show = make(n)
  else if (set !== undefined) {
    show = (t, i) =>
      set.combine ? flags(set.table, t.argU32(i), set.what) : enumeration(set.table, t.argI32(i), set.what)
  } else show = (t, i) => hex(t.argPtr(i))
  if (!output) return show
  // What a failed call did not fill is only an address.
  return (t, i, ret) => (ret < 0 ? decode.pointer(t.argPtr(i)) : show(t, i, ret))
}
