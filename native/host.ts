/**
 * Host system calls. Each returns ≥ 0 or −errno and runs on the calling thread. `P` parameters take a Buffer or typed
 * array (passed by address, pinned for the call), a NUL-terminated string made by {@link cstr}, or null.
 */
import { libhost } from './library.ts'

export type Memory = NodeJS.ArrayBufferView | null

/* One prototype of host_syscall per shape: l = integer, p = pointer; missing arguments are integers. */
const shape = (kinds: string) => {
  const types = ['long']
  for (let i = 0; i < 6; i++) types.push(kinds[i] === 'p' ? 'void *' : 'long')
  return libhost.func('host_syscall', 'long', types) as (nr: number, ...args: (number | Memory)[]) => number
}
const L = shape('')
const P = shape('p')
const LP = shape('lp')
const PP = shape('pp')
const LPP = shape('lpp')
const LPLP = shape('lplp')
const LLP = shape('llp')
const LLLP = shape('lllp')
const LLPP = shape('llpp')
const PPP = shape('ppp')
const PLP = shape('plp')
const LPLLPP = shape('lpllpp')
const PPPLP = shape('ppplp')
const LPPP = shape('lppp')
const LPLLP = shape('lpllp')

/** Raw callers for files that bind calls of their own family (sockets, mounts, …): the name is the shape of the arguments. */
export const raw = { L, P, LP, PP, LPP, LPLP, LLP, LLLP, LLPP, PPP, PLP, LPLLPP, PPPLP, LPPP, LPLLP }

/** A latin1 byte string as NUL-terminated memory. */
export function cstr(s: string): Buffer {
  return Buffer.from(`${s}\0`, 'latin1')
}

export const read = (fd: number, buf: Memory, len: number): number => LP(0, fd, buf, len, 0, 0, 0)
export const write = (fd: number, buf: Memory, len: number): number => LP(1, fd, buf, len, 0, 0, 0)
export const close = (fd: number): number => L(3, fd, 0, 0, 0, 0, 0)
/** poll(2) of an array of struct pollfd. */
export const poll = (fds: Memory, count: number, timeoutMs: number): number => P(7, fds, count, timeoutMs, 0, 0, 0)
export const lseek = (fd: number, offset: number, whence: number): number => L(8, fd, offset, whence, 0, 0, 0)
export const ioctl = (fd: number, request: number, arg: Memory): number => LLP(16, fd, request, arg, 0, 0, 0)
export const ioctlInt = (fd: number, request: number, arg: number): number => L(16, fd, request, arg, 0, 0, 0)
export const pread = (fd: number, buf: Memory, len: number, offset: number): number =>
  LP(17, fd, buf, len, offset, 0, 0)
export const pwrite = (fd: number, buf: Memory, len: number, offset: number): number =>
  LP(18, fd, buf, len, offset, 0, 0)
export const dup = (fd: number): number => L(32, fd, 0, 0, 0, 0, 0)
export const dup3 = (fd: number, to: number, flags: number): number => L(292, fd, to, flags, 0, 0, 0)
/** malloc_trim(3): free memory of the C library goes back to the host, but for `pad` bytes. */
export const mallocTrim = libhost.func('malloc_trim', 'int', ['long']) as (pad: number) => number
export const getpid = (): number => L(39, 0, 0, 0, 0, 0, 0)
export const kill = (pid: number, sig: number): number => L(62, pid, sig, 0, 0, 0, 0)
export const fcntl = (fd: number, cmd: number, arg: number): number => L(72, fd, cmd, arg, 0, 0, 0)
export const fsync = (fd: number): number => L(74, fd, 0, 0, 0, 0, 0)
export const fdatasync = (fd: number): number => L(75, fd, 0, 0, 0, 0, 0)
export const ftruncate = (fd: number, len: number): number => L(77, fd, len, 0, 0, 0, 0)
export const fallocate = (fd: number, mode: number, offset: number, len: number): number =>
  L(285, fd, mode, offset, len, 0, 0)
/** statx(2) of an open fd (AT_EMPTY_PATH) into a 256-byte buffer. */
export const statxFd = (fd: number, mask: number, out: Memory): number => LPLLP(332, fd, EMPTY, 0x1000, mask, out, 0)
export const openat = (dirfd: number, path: string, flags: number, mode: number): number =>
  LP(257, dirfd, cstr(path), flags, mode, 0, 0)
export const pipe2 = (fds: Int32Array, flags: number): number => P(293, fds, flags, 0, 0, 0, 0)
export const eventfd = (initial: number, flags: number): number => L(290, initial, flags, 0, 0, 0, 0)
export const memfdCreate = (name: string, flags: number): number => P(319, cstr(name), flags, 0, 0, 0, 0)
export const socketpair = (family: number, type: number, protocol: number, fds: Int32Array): number =>
  LLLP(53, family, type, protocol, fds, 0, 0)
export const epollCreate1 = (flags: number): number => L(291, flags, 0, 0, 0, 0, 0)
export const epollCtl = (ep: number, op: number, fd: number, event: Memory): number =>
  LLLP(233, ep, op, fd, event, 0, 0)
/** clock_gettime(2) into struct timespec (two int64). */
/** CLOCK_MONOTONIC or CLOCK_BOOTTIME in ns. */
export const clockNs = libhost.func('host_clock', 'long', ['int']) as (clock: number) => number
/** Through the vDSO, into a struct timespec at an address. Of a clock that exists. */
export const clockInto = libhost.func('clock_gettime', 'int', ['int', 'long']) as (clock: number, to: number) => number
export const clockGettime = (clock: number, out: Memory): number => LP(228, clock, out, 0, 0, 0, 0)
export const getrandom = (buf: Memory, len: number, flags: number): number => P(318, buf, len, flags, 0, 0, 0)

const EMPTY = Buffer.from([0])
export const pidfdOpen = (pid: number, flags: number): number => L(434, pid, flags, 0, 0, 0, 0)
/** Our copy of descriptor `fd` of the process behind `pidfd`. */
export const pidfdGetfd = (pidfd: number, fd: number): number => L(438, pidfd, fd, 0, 0, 0, 0)

const AT_FDCWD = -100
const O_CLOEXEC = 0o2000000
const O_PATH_DIRECTORY = 0o10200000
let selfFds = -1

/** Holds /proc/self/fd, so that {@link reopen} works when /proc is out of reach. Again: that of another root. */
export function holdSelfFds(): number {
  const before = selfFds
  selfFds = openat(AT_FDCWD, '/proc/self/fd', O_PATH_DIRECTORY | O_CLOEXEC, 0)
  if (before >= 0) close(before)
  return selfFds
}

/** A new description of what `fd` refers to, with other flags (O_RDONLY of a writable file, O_NONBLOCK of a shared pipe). */
export function reopen(fd: number, flags: number): number {
  return selfFds >= 0
    ? openat(selfFds, String(fd), flags | O_CLOEXEC, 0)
    : openat(AT_FDCWD, `/proc/self/fd/${fd}`, flags | O_CLOEXEC, 0)
}
