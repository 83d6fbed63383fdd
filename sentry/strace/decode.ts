/**
 * Guest memory as text for --strace: strings, structures, vectors.
 *
 * Everything here only reads, bounds what it reads, and shows an address it cannot read as the bare number; nothing
 * depends on what the bytes are.
 */
import type { Task } from '../kernel/task.ts'
import {
  EPOLL_EVENTS,
  enumeration,
  flags,
  hex,
  POLL_EVENTS,
  SA_FLAGS,
  SETS,
  SOCK_FLAGS,
  SOCK_TYPES,
  signalName,
} from './flags.ts'
import { SIGNAL_NAMES } from './signals.ts'

/** strace's default -s. */
const STRING_LIMIT = 32
/** Elements of an array, as strace abbreviates. */
const ARRAY_LIMIT = 32
const PATH_MAX = 4096
const TWO32 = 0x1_0000_0000

const BYTES = new Uint8Array(4096)
const VIEW = new DataView(BYTES.buffer)

export const pointer = (addr: number): string => (addr === 0 ? 'NULL' : hex(addr))

/** `len` bytes at `addr` into BYTES; false if they cannot all be read. */
function load(t: Task, addr: number, len: number): boolean {
  return addr !== 0 && len <= BYTES.length && t.copyIn(addr, BYTES, 0, len) === len
}
const word = (at: number): number => VIEW.getUint32(at, true) + VIEW.getUint32(at + 4, true) * TWO32
const signedWord = (at: number): number => VIEW.getUint32(at, true) + VIEW.getInt32(at + 4, true) * TWO32

const ESCAPES: Record<number, string> = { 9: '\\t', 10: '\\n', 11: '\\v', 12: '\\f', 13: '\\r', 34: '\\"', 92: '\\\\' }

/** Bytes in quotes: escapes, and octal for what does not print. */
export function quote(text: string): string {
  let out = '"'
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i)
    const named = ESCAPES[c]
    if (named !== undefined) out += named
    else if (c >= 32 && c < 127) out += text[i]
    else {
      const next = text.charCodeAt(i + 1)
      // Three digits where a digit follows, or it would be read as part of the number.
      out += next >= 48 && next <= 57 ? `\\${c.toString(8).padStart(3, '0')}` : `\\${c.toString(8)}`
    }
  }
  return `${out}"`
}

/** A buffer of `len` bytes, abbreviated. */
export function buffer(t: Task, addr: number, len: number): string {
  if (addr === 0) return 'NULL'
  if (!(len >= 0)) return hex(addr)
  const shown = Math.min(len, STRING_LIMIT)
  if (!load(t, addr, shown)) return hex(addr)
  return quote(Buffer.from(BYTES.buffer, 0, shown).toString('latin1')) + (len > shown ? '...' : '')
}

/** A NUL-terminated string: whole for paths, abbreviated otherwise. */
export function string(t: Task, addr: number, whole: boolean): string {
  if (addr === 0) return 'NULL'
  const text = t.readString(addr, PATH_MAX)
  if (typeof text === 'number') return hex(addr)
  return whole || text.length <= STRING_LIMIT ? quote(text) : `${quote(text.slice(0, STRING_LIMIT))}...`
}

/** argv; null when the vector cannot be read. */
export function stringVector(t: Task, addr: number): string {
  if (addr === 0) return 'NULL'
  const parts: string[] = []
  for (let at = addr; ; at += 8) {
    const p = t.readU64(at)
    if (p < 0) return hex(addr)
    if (p === 0) break
    if (parts.length >= ARRAY_LIMIT) {
      parts.push('...')
      break
    }
    parts.push(string(t, p, false))
  }
  return `[${parts.join(', ')}]`
}

/** envp: its address and how much there is. */
export function environment(t: Task, addr: number): string {
  if (addr === 0) return 'NULL'
  let n = 0
  for (let at = addr; n < 100_000; at += 8, n++) {
    const p = t.readU64(at)
    if (p < 0) return hex(addr)
    if (p === 0) break
  }
  return `${hex(addr)} /* ${n} var${n === 1 ? '' : 's'} */`
}

/** A signal set: what is in it, or what is not where that is shorter. */
export function signalSet(t: Task, addr: number, size: number): string {
  if (size < 8 || !load(t, addr, 8)) return pointer(addr)
  return setText(VIEW.getUint32(0, true), VIEW.getUint32(4, true))
}

function setText(lo: number, hi: number): string {
  const has = (sig: number): boolean => (sig <= 32 ? (lo >>> (sig - 1)) & 1 : (hi >>> (sig - 33)) & 1) !== 0
  const name = (sig: number): string => signalName(sig).replace(/^SIG/, '')
  const inside: string[] = []
  const outside: string[] = []
  for (let sig = 1; sig <= 64; sig++) (has(sig) ? inside : outside).push(name(sig))
  if (inside.length > 32) return `~[${outside.join(' ')}]`
  return `[${inside.join(' ')}]`
}

const HANDLERS = ['SIG_DFL', 'SIG_IGN']

export function sigaction(t: Task, addr: number): string {
  if (!load(t, addr, 32)) return pointer(addr)
  const handler = word(0)
  const mask = setText(VIEW.getUint32(24, true), VIEW.getUint32(28, true))
  const saFlags = VIEW.getUint32(8, true)
  const restorer = word(16)
  const name = HANDLERS[handler] ?? hex(handler)
  const tail = (saFlags & 0x4000000) !== 0 ? `, sa_restorer=${hex(restorer)}` : ''
  return `{sa_handler=${name}, sa_mask=${mask}, sa_flags=${flags(SA_FLAGS, saFlags, 'SA_???')}${tail}}`
}

export function timespec(t: Task, addr: number): string {
  if (!load(t, addr, 16)) return pointer(addr)
  return `{tv_sec=${signedWord(0)}, tv_nsec=${signedWord(8)}}`
}
export function timeval(t: Task, addr: number): string {
  if (!load(t, addr, 16)) return pointer(addr)
  return `{tv_sec=${signedWord(0)}, tv_usec=${signedWord(8)}}`
}
export function itimerval(t: Task, addr: number): string {
  if (!load(t, addr, 32)) return pointer(addr)
  const value = (at: number): string => `{tv_sec=${signedWord(at)}, tv_usec=${signedWord(at + 8)}}`
  return `{it_interval=${value(0)}, it_value=${value(16)}}`
}
export function itimerspec(t: Task, addr: number): string {
  if (!load(t, addr, 32)) return pointer(addr)
  const value = (at: number): string => `{tv_sec=${signedWord(at)}, tv_nsec=${signedWord(at + 8)}}`
  return `{it_interval=${value(0)}, it_value=${value(16)}}`
}

function limit(at: number): string {
  const lo = VIEW.getUint32(at, true)
  const hi = VIEW.getUint32(at + 4, true)
  if (lo === 0xffffffff && hi === 0xffffffff) return 'RLIM64_INFINITY'
  const n = hi * TWO32 + lo
  return n >= 1024 && n % 1024 === 0 ? `${n / 1024}*1024` : String(n)
}
export function rlimit(t: Task, addr: number): string {
  if (!load(t, addr, 16)) return pointer(addr)
  return `{rlim_cur=${limit(0)}, rlim_max=${limit(8)}}`
}

const TYPE_NAMES: Record<number, string> = {
  1: 'S_IFIFO',
  2: 'S_IFCHR',
  4: 'S_IFDIR',
  6: 'S_IFBLK',
  8: 'S_IFREG',
  10: 'S_IFLNK',
  12: 'S_IFSOCK',
}
function modeText(mode: number): string {
  const type = TYPE_NAMES[mode >> 12]
  const bits = `0${(mode & 0o7777).toString(8)}`
  return type === undefined ? bits : `${type}|${bits}`
}
export const octal = (n: number): string => (n === 0 ? '000' : `0${n.toString(8)}`)

const major = (dev: number): number => (dev >>> 8) & 0xfff
const minor = (dev: number): number => (dev & 0xff) | ((dev >>> 12) & 0xfff00)

export function stat(t: Task, addr: number): string {
  if (!load(t, addr, 144)) return pointer(addr)
  const mode = VIEW.getUint32(24, true)
  const type = mode >> 12
  const size =
    type === 2 || type === 6
      ? `st_rdev=makedev(${hex(major(VIEW.getUint32(40, true)))}, ${hex(minor(VIEW.getUint32(40, true)))})`
      : `st_size=${signedWord(48)}`
  return `{st_mode=${modeText(mode)}, ${size}, ...}`
}
export function statx(t: Task, addr: number): string {
  if (!load(t, addr, 256)) return pointer(addr)
  const set = SETS['statx_mask']!
  return `{stx_mask=${flags(set.table, VIEW.getUint32(0, true), set.what)}, stx_mode=${modeText(VIEW.getUint16(28, true))}, stx_size=${signedWord(40)}, ...}`
}

/** Two descriptors of pipe(2) or socketpair(2). */
export function fdPair(t: Task, addr: number): string {
  return load(t, addr, 8) ? `[${VIEW.getInt32(0, true)}, ${VIEW.getInt32(4, true)}]` : pointer(addr)
}
export function int32(t: Task, addr: number): string {
  return load(t, addr, 4) ? `[${VIEW.getInt32(0, true)}]` : pointer(addr)
}
export function int64(t: Task, addr: number): string {
  return load(t, addr, 8) ? `[${signedWord(0)}]` : pointer(addr)
}

/** The wait status of wait4(2). */
export function waitStatus(t: Task, addr: number): string {
  if (!load(t, addr, 4)) return pointer(addr)
  const s = VIEW.getUint32(0, true)
  if (s === 0xffff) return '[{WIFCONTINUED(s)}]'
  if ((s & 0xff) === 0x7f) return `[{WIFSTOPPED(s) && WSTOPSIG(s) == ${signalName((s >> 8) & 0xff)}}]`
  if ((s & 0x7f) === 0) return `[{WIFEXITED(s) && WEXITSTATUS(s) == ${(s >> 8) & 0xff}}]`
  const core = (s & 0x80) !== 0 ? ' && WCOREDUMP(s)' : ''
  return `[{WIFSIGNALED(s) && WTERMSIG(s) == ${signalName(s & 0x7f)}${core}}]`
}

export function siginfo(t: Task, addr: number): string {
  if (!load(t, addr, 32)) return pointer(addr)
  const signo = VIEW.getInt32(0, true)
  const code = VIEW.getInt32(8, true)
  if (signo === 0) return '{}'
  const name = SIGNAL_NAMES[signo] ?? String(signo)
  return `{si_signo=${name}, si_code=${code}, si_pid=${VIEW.getInt32(16, true)}, si_uid=${VIEW.getUint32(20, true)}, ...}`
}

export function sockType(value: number): string {
  const kind = enumeration(SOCK_TYPES, value & 0xf, 'SOCK_???')
  const rest = value & ~0xf
  return rest === 0 ? kind : `${kind}|${flags(SOCK_FLAGS, rest, 'SOCK_???')}`
}

function ipv6(at: number): string {
  const words: string[] = []
  for (let i = 0; i < 8; i++) words.push(VIEW.getUint16(at + 2 * i, false).toString(16))
  return words
    .join(':')
    .replace(/\b(0(:0)+)\b/, ':')
    .replace(/:{3,}/, '::')
}

export function sockaddr(t: Task, addr: number, len: number): string {
  if (addr === 0) return 'NULL'
  const n = Math.min(len, 128)
  if (n < 2 || !load(t, addr, n)) return hex(addr)
  const family = VIEW.getUint16(0, true)
  if (family === 1) {
    if (n === 2) return '{sa_family=AF_UNIX}'
    const path = Buffer.from(BYTES.buffer, 2, n - 2).toString('latin1')
    const abstract = path.charCodeAt(0) === 0
    const nul = path.indexOf('\0')
    const text = abstract ? `@${quote(path.slice(1))}` : quote(nul < 0 ? path : path.slice(0, nul))
    return `{sa_family=AF_UNIX, sun_path=${text}}`
  }
  if (family === 2 && n >= 8) {
    const ip = `${BYTES[4]}.${BYTES[5]}.${BYTES[6]}.${BYTES[7]}`
    return `{sa_family=AF_INET, sin_port=htons(${VIEW.getUint16(2, false)}), sin_addr=inet_addr("${ip}")}`
  }
  if (family === 10 && n >= 24) {
    return `{sa_family=AF_INET6, sin6_port=htons(${VIEW.getUint16(2, false)}), inet_pton(AF_INET6, "${ipv6(8)}", &sin6_addr)}`
  }
  if (family === 16 && n >= 12) {
    return `{sa_family=AF_NETLINK, nl_pid=${VIEW.getInt32(4, true)}, nl_groups=${hex(VIEW.getUint32(8, true))}}`
  }
  const domain = SETS['domain']!
  return `{sa_family=${enumeration(domain.table, family, domain.what)}, ...}`
}

/** An iovec with its data; `total` bounds what is shown (the result of a read). */
export function iovec(t: Task, addr: number, count: number, total: number): string {
  if (addr === 0) return 'NULL'
  const shown = Math.min(count, ARRAY_LIMIT)
  const parts: string[] = []
  let left = total
  for (let i = 0; i < shown; i++) {
    if (!load(t, addr + 16 * i, 16)) return i === 0 ? hex(addr) : `[${parts.join(', ')}, ...]`
    const base = word(0)
    const len = word(8)
    const n = Math.min(len, left)
    parts.push(`{iov_base=${buffer(t, base, n)}, iov_len=${len}}`)
    left -= n
  }
  if (count > shown) parts.push('...')
  return `[${parts.join(', ')}]`
}

/** struct msghdr of sendmsg(2) and recvmsg(2). */
export function msghdr(t: Task, addr: number, total: number): string {
  if (!load(t, addr, 56)) return pointer(addr)
  const name = word(0)
  const nameLen = VIEW.getUint32(8, true)
  const iov = word(16)
  const iovLen = word(24)
  const control = word(32)
  const controlLen = word(40)
  const msg = SETS['msg_flags']!
  const msgFlags = flags(msg.table, VIEW.getUint32(48, true), msg.what)
  return (
    `{msg_name=${sockaddr(t, name, nameLen)}, msg_namelen=${nameLen}, msg_iov=${iovec(t, iov, iovLen, total)}, ` +
    `msg_iovlen=${iovLen}, msg_control=${pointer(control)}, msg_controllen=${controlLen}, msg_flags=${msgFlags}}`
  )
}

/** struct pollfd[]; `revents`: what came true. */
export function pollFds(t: Task, addr: number, count: number, revents: boolean): string {
  if (addr === 0) return 'NULL'
  const parts: string[] = []
  const shown = Math.min(count, ARRAY_LIMIT)
  for (let i = 0; i < shown; i++) {
    if (!load(t, addr + 8 * i, 8)) return i === 0 ? hex(addr) : `[${parts.join(', ')}, ...]`
    const fd = VIEW.getInt32(0, true)
    const mask = VIEW.getUint16(revents ? 6 : 4, true)
    if (revents && mask === 0) continue
    parts.push(`{fd=${fd}, ${revents ? 'revents' : 'events'}=${flags(POLL_EVENTS, mask, 'POLL???')}}`)
  }
  if (count > shown) parts.push('...')
  return `[${parts.join(', ')}]`
}

/** An fd_set. */
export function fdSet(t: Task, addr: number, nfds: number): string {
  const len = Math.ceil(Math.min(Math.max(nfds, 0), 1024) / 8)
  if (!load(t, addr, len)) return pointer(addr)
  const fds: number[] = []
  for (let fd = 0; fd < nfds && fd < len * 8; fd++) if ((BYTES[fd >> 3]! & (1 << (fd & 7))) !== 0) fds.push(fd)
  return `[${fds.join(' ')}]`
}

export function epollEvents(t: Task, addr: number, count: number): string {
  if (addr === 0) return 'NULL'
  const parts: string[] = []
  const shown = Math.min(count, ARRAY_LIMIT)
  for (let i = 0; i < shown; i++) {
    if (!load(t, addr + 12 * i, 12)) return i === 0 ? hex(addr) : `[${parts.join(', ')}, ...]`
    const events = flags(EPOLL_EVENTS, VIEW.getUint32(0, true), 'EPOLL???')
    parts.push(`{events=${events}, data=${hex(word(4))}}`)
  }
  if (count > shown) parts.push('...')
  return `[${parts.join(', ')}]`
}
/** The one event of epoll_ctl(2). */
export function epollEvent(t: Task, addr: number): string {
  return addr === 0 ? 'NULL' : epollEvents(t, addr, 1).slice(1, -1)
}

export function flock(t: Task, addr: number): string {
  if (!load(t, addr, 32)) return pointer(addr)
  const type = ['F_RDLCK', 'F_WRLCK', 'F_UNLCK'][VIEW.getInt16(0, true)] ?? String(VIEW.getInt16(0, true))
  const whence = ['SEEK_SET', 'SEEK_CUR', 'SEEK_END'][VIEW.getInt16(2, true)] ?? String(VIEW.getInt16(2, true))
  return `{l_type=${type}, l_whence=${whence}, l_start=${signedWord(8)}, l_len=${signedWord(16)}}`
}

export function winsize(t: Task, addr: number): string {
  if (!load(t, addr, 8)) return pointer(addr)
  const v = (at: number): number => VIEW.getUint16(at, true)
  return `{ws_row=${v(0)}, ws_col=${v(2)}, ws_xpixel=${v(4)}, ws_ypixel=${v(6)}}`
}

/** struct clone_args. */
export function cloneArgs(t: Task, addr: number, namesOf: (flags: number) => string): string {
  if (!load(t, addr, 64)) return pointer(addr)
  const exit = word(32)
  return (
    `{flags=${namesOf(VIEW.getUint32(0, true))}, child_tid=${hex(word(16))}, parent_tid=${hex(word(24))}, ` +
    `exit_signal=${exit === 0 ? '0' : signalName(exit)}, stack=${pointer(word(40))}, stack_size=${hex(word(48))}, tls=${hex(word(56))}}`
  )
}

/** struct open_how. */
export function openHow(t: Task, addr: number, flagsText: (flags: number) => string): string {
  if (!load(t, addr, 24)) return pointer(addr)
  const how = VIEW.getUint32(0, true)
  return `{flags=${flagsText(how)}, mode=${octal(VIEW.getUint32(8, true))}, resolve=${hex(word(16))}}`
}

/** The node name of uname(2)'s result. */
export function utsname(t: Task, addr: number): string {
  if (!load(t, addr, 390)) return pointer(addr)
  const field = (at: number): string => {
    const text = Buffer.from(BYTES.buffer, at, 65).toString('latin1')
    return quote(text.slice(0, text.indexOf('\0')))
  }
  return `{sysname=${field(0)}, nodename=${field(65)}, ...}`
}
