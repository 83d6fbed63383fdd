/**
 * Host calls of the file family, for callers that keep their paths and records in memory of their own and pass
 * addresses: a call with an address costs no allocation, copy or string conversion. Each returns ≥ 0 or −errno.
 *
 * What must stay true: memory given by address is alive and off the JavaScript heap for the whole call. `HostMemory`
 * guarantees that; nothing else should be turned into an address.
 */
import { raw } from './host.ts'
import { addressOf, libhost } from './library.ts'

const { L } = raw

/** A buffer with a known, stable address. `at(offset)` is what calls take for a pointer. */
export class HostMemory {
  readonly bytes: Buffer
  readonly view: DataView
  readonly address: number

  constructor(size: number) {
    // allocUnsafeSlow: its own backing store, never a slice of the pool, never on the heap that the collector moves.
    this.bytes = Buffer.allocUnsafeSlow(size).fill(0)
    this.view = new DataView(this.bytes.buffer, this.bytes.byteOffset, size)
    this.address = addressOf(this.bytes)
  }

  at(offset: number): number {
    return this.address + offset
  }

  /** Writes a NUL-terminated latin1 string; returns the offset behind it. */
  writeString(offset: number, s: string): number {
    const n = this.bytes.write(s, offset, 'latin1')
    this.bytes[offset + n] = 0
    return offset + n + 1
  }
}

export const AT_FDCWD = -100
export const AT_SYMLINK_NOFOLLOW = 0x100
export const AT_REMOVEDIR = 0x200
export const AT_SYMLINK_FOLLOW = 0x400
export const AT_NO_AUTOMOUNT = 0x800
export const AT_EMPTY_PATH = 0x1000
export const AT_RECURSIVE = 0x8000

export const O_RDONLY = 0
export const O_WRONLY = 1
export const O_RDWR = 2
export const O_ACCMODE = 3
export const O_CREAT = 0o100
export const O_EXCL = 0o200
export const O_NOCTTY = 0o400
export const O_TRUNC = 0o1000
export const O_APPEND = 0o2000
export const O_NONBLOCK = 0o4000
export const O_DSYNC = 0o10000
export const O_SYNC = 0o4010000
export const O_DIRECTORY = 0o200000
export const O_NOFOLLOW = 0o400000
export const O_CLOEXEC = 0o2000000
export const O_PATH = 0o10000000
export const O_TMPFILE = 0o20200000

export const RESOLVE_NO_MAGICLINKS = 2
export const RESOLVE_NO_SYMLINKS = 4
export const RESOLVE_BENEATH = 8

/** struct statx: offsets of what is used of it. */
export const STATX_SIZE = 256
export const STATX_BASIC_AND_BTIME = 0xfff
export const STATX_MNT_ID = 0x1000
export const STATX_OFFSET = {
  mask: 0,
  blksize: 4,
  nlink: 16,
  uid: 20,
  gid: 24,
  mode: 28,
  ino: 32,
  size: 40,
  blocks: 48,
  atime: 64,
  btime: 80,
  ctime: 96,
  mtime: 112,
  rdevMajor: 128,
  rdevMinor: 132,
  devMajor: 136,
  devMinor: 140,
  mntId: 144,
}

const how = new HostMemory(24)

/** openat2(2). `mode` only with O_CREAT or O_TMPFILE. */
export function openat2(dirfd: number, path: number, flags: number, mode: number, resolve: number): number {
  how.view.setUint32(0, flags, true)
  how.view.setUint32(8, mode, true)
  how.view.setUint32(16, resolve, true)
  return L(437, dirfd, path, how.address, 24, 0, 0)
}
export const openatAddress = (dirfd: number, path: number, flags: number, mode: number): number =>
  L(257, dirfd, path, flags, mode, 0, 0)
export const statxAt = (dirfd: number, path: number, flags: number, mask: number, out: number): number =>
  L(332, dirfd, path, flags, mask, out, 0)
export const closeFd = (fd: number): number => L(3, fd, 0, 0, 0, 0, 0)
export const getdents64 = (fd: number, out: number, size: number): number => L(217, fd, out, size, 0, 0, 0)
export const lseekBig = (fd: number, offset: bigint): number => Number(bigL(8, fd, offset, 0, 0, 0, 0))
const bigL = raw.L as unknown as (nr: number, a: number, b: bigint, ...rest: number[]) => number
export const readlinkat = (dirfd: number, path: number, out: number, size: number): number =>
  L(267, dirfd, path, out, size, 0, 0)
export const mkdirat = (dirfd: number, path: number, mode: number): number => L(258, dirfd, path, mode, 0, 0, 0)
export const mknodat = (dirfd: number, path: number, mode: number, dev: number): number =>
  L(259, dirfd, path, mode, dev, 0, 0)
export const symlinkat = (target: number, dirfd: number, path: number): number => L(266, target, dirfd, path, 0, 0, 0)
export const linkat = (oldDir: number, oldPath: number, newDir: number, newPath: number, flags: number): number =>
  L(265, oldDir, oldPath, newDir, newPath, flags, 0)
export const unlinkat = (dirfd: number, path: number, flags: number): number => L(263, dirfd, path, flags, 0, 0, 0)
export const renameat2 = (oldDir: number, oldPath: number, newDir: number, newPath: number, flags: number): number =>
  L(316, oldDir, oldPath, newDir, newPath, flags, 0)
export const fchownat = (dirfd: number, path: number, uid: number, gid: number, flags: number): number =>
  L(260, dirfd, path, uid, gid, flags, 0)
export const fchown = (fd: number, uid: number, gid: number): number => L(93, fd, uid, gid, 0, 0, 0)
export const fchmod = (fd: number, mode: number): number => L(91, fd, mode, 0, 0, 0, 0)
/** Follows a link in the last component; use fchmodat2 where the kernel has it (6.6). */
export const fchmodat = (dirfd: number, path: number, mode: number): number => L(268, dirfd, path, mode, 0, 0, 0)
export const fchmodat2 = (dirfd: number, path: number, mode: number, flags: number): number =>
  L(452, dirfd, path, mode, flags, 0, 0)
/** `path` 0 with an fd for `dirfd`: futimens. */
export const utimensat = (dirfd: number, path: number, times: number, flags: number): number =>
  L(280, dirfd, path, times, flags, 0, 0)
export const ftruncateFd = (fd: number, size: number): number => L(77, fd, size, 0, 0, 0, 0)
export const fstatfs = (fd: number, out: number): number => L(138, fd, out, 0, 0, 0, 0)
const cpu = new HostMemory(4)
/** getcpu(2): where this thread runs. */
export function currentCpu(): number {
  L(309, cpu.address, 0, 0, 0, 0, 0)
  return cpu.view.getUint32(0, true)
}
export const schedSetaffinity = (tid: number, size: number, set: number): number => L(203, tid, size, set, 0, 0, 0)
export const fchdir = (fd: number): number => L(81, fd, 0, 0, 0, 0, 0)
export const lgetxattr = (path: number, name: number, out: number, size: number): number =>
  L(192, path, name, out, size, 0, 0)
export const lsetxattr = (path: number, name: number, value: number, size: number, flags: number): number =>
  L(189, path, name, value, size, flags, 0)
export const llistxattr = (path: number, out: number, size: number): number => L(195, path, out, size, 0, 0, 0)
export const lremovexattr = (path: number, name: number): number => L(198, path, name, 0, 0, 0, 0)

/* For servers that keep descriptors: data, and what is done to a descriptor by its name in /proc/self/fd. */
export const pollAddress = (fds: number, count: number, timeoutMs: number): number =>
  L(7, fds, count, timeoutMs, 0, 0, 0)
export const readAddress = (fd: number, to: number, size: number): number => L(0, fd, to, size, 0, 0, 0)
export const writeAddress = (fd: number, from: number, size: number): number => L(1, fd, from, size, 0, 0, 0)
export const preadAddress = (fd: number, to: number, size: number, offset: number): number =>
  L(17, fd, to, size, offset, 0, 0)
export const pwriteAddress = (fd: number, from: number, size: number, offset: number): number =>
  L(18, fd, from, size, offset, 0, 0)
export const fcntlAddress = (fd: number, command: number, arg: number): number => L(72, fd, command, arg, 0, 0, 0)
export const lseekAddress = (fd: number, offset: number, whence: number): number => L(8, fd, offset, whence, 0, 0, 0)
export const fallocate = (fd: number, mode: number, offset: number, length: number): number =>
  L(285, fd, mode, offset, length, 0, 0)
/** `iov`: address of `count` struct iovec. */
export const pwritev2 = (fd: number, iov: number, count: number, offset: number, flags: number): number =>
  L(328, fd, iov, count, offset, 0, flags)
/** The offsets by address. */
export const copyFileRange = (from: number, fromAt: number, to: number, toAt: number, length: number): number =>
  L(326, from, fromAt, to, toAt, length, 0)
/** Follows links, as the next four do. */
export const truncateAddress = (path: number, size: number): number => L(76, path, size, 0, 0, 0, 0)
export const getxattrAddress = (path: number, name: number, out: number, size: number): number =>
  L(191, path, name, out, size, 0, 0)
export const setxattrAddress = (path: number, name: number, value: number, size: number, flags: number): number =>
  L(188, path, name, value, size, flags, 0)
export const listxattrAddress = (path: number, out: number, size: number): number => L(194, path, out, size, 0, 0, 0)
export const removexattrAddress = (path: number, name: number): number => L(197, path, name, 0, 0, 0, 0)

/** Puts entries of getdents64 with their attributes into a frame: its length. `listed`: 3 u32, see host/listing.c. */
export const listEntries = libhost.func('host_list', 'long', ['int', 'long', 'long', 'long', 'long', 'long']) as (
  fd: number,
  from: number,
  size: number,
  to: number,
  room: number,
  listed: number,
) => number
