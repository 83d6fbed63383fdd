/**
 * Moving data between descriptors: sendfile(2), copy_file_range(2), splice(2), tee(2), vmsplice(2).
 *
 * Data goes through one buffer of the sentry. Input is taken only as far as the output took it: positions move, and pipe
 * bytes are dropped, after the write. How much a call that sleeps has moved is in `t.progress`.
 */
import { EAGAIN, EBADF, EFAULT, EINVAL, EISDIR, EPIPE, ESPIPE } from '../sentry/abi/errno.ts'
import { O_APPEND, O_NONBLOCK } from '../sentry/abi/fcntl.ts'
import { type Pipe, PipeFile } from '../sentry/fs/pipe.ts'
import { sendSigpipe } from '../sentry/fs/sigpipe.ts'
import { BLOCK, ERESTARTSYS, type SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import { KernelIovIter } from '../sentry/mm/iov-iter.ts'
import { EPOLLIN, EPOLLOUT, type FileDescription } from '../sentry/vfs/file-description.ts'
import { fsnotify, IN_MODIFY } from '../sentry/vfs/fsnotify.ts'
import { S_IFBLK, S_IFDIR, S_IFMT, S_IFREG } from '../sentry/vfs/inode.ts'
import { importIovec, MAX_RW_COUNT } from './io-args.ts'
import { readFile, writeFile } from './read-write.ts'

const CHUNK = new Uint8Array(256 * 1024)
const TWO32 = 0x1_0000_0000

/** A loff_t behind a pointer, or NaN for a fault. */
function readOffset(t: Task, addr: number): number {
  const lo = t.readU32(addr)
  const hi = t.readU32(addr + 4)
  return lo < 0 || hi < 0 ? Number.NaN : lo + (hi | 0) * TWO32
}

/** Whether the last {@link pump} stopped at the input's end; sizes do not tell: generated files have none of their own. */
let inputEnded = false

/**
 * Reads from a positioned file and writes to `out` until `len` bytes are through, the input ends, or the output would
 * sleep. Returns the bytes, or −errno when there were none.
 */
function pump(
  t: Task,
  input: FileDescription,
  inPos: number,
  out: FileDescription,
  outPos: number,
  len: number,
): number {
  let done = 0
  inputEnded = false
  while (done < len) {
    const n = input.read(t, new KernelIovIter(CHUNK, 0, Math.min(CHUNK.length, len - done)), inPos + done)
    if (n <= 0) {
      inputEnded = true
      return done > 0 || n === 0 ? done : n
    }
    let written = 0
    while (written < n) {
      const iter = new KernelIovIter(CHUNK, written, n - written)
      let ret: number
      if (outPos >= 0) ret = out.write(t, iter, outPos + done)
      else {
        ret = out.write(t, iter, out.seekable ? out.pos : -1)
        if (ret > 0 && out.seekable) out.pos += ret
      }
      if (ret <= 0) return done > 0 || ret === 0 ? done : ret
      written += ret
      done += ret
    }
  }
  return done
}

const SEEK_SET = 0
const SEEK_CUR = 1

/** A host file's position is kept by the host (`pos` is −1): others outside the sandbox share it. */
function position(t: Task, file: FileDescription): number {
  return file.pos >= 0 ? file.pos : file.seek(t, 0, SEEK_CUR)
}
function setPosition(t: Task, file: FileDescription, pos: number): void {
  if (file.pos >= 0) file.pos = pos
  else file.seek(t, pos, SEEK_SET)
}

/** sendfile(2). */
export function sysSendfile(t: Task): SysRet {
  const offsetAddr = t.argPtr(2)
  const count = Math.min(t.argPtr(3), MAX_RW_COUNT)
  let base = Number.NaN
  if (offsetAddr !== 0) {
    base = readOffset(t, offsetAddr)
    if (Number.isNaN(base)) return -EFAULT
  }
  const input = t.fds.get(t.argI32(1))
  if (input === undefined || !input.readable) return -EBADF
  if (offsetAddr !== 0 && !input.seekable) return -ESPIPE
  const out = t.fds.get(t.argI32(0))
  if (out === undefined || !out.writable) return -EBADF
  const type = input.inode.mode & S_IFMT
  if ((type !== S_IFREG && type !== S_IFBLK) || !input.seekable) return -EINVAL
  if (base < 0 || (out.flags & O_APPEND) !== 0) return -EINVAL
  if (offsetAddr === 0) base = position(t, input)

  // What an earlier run has sent is behind `base` already.
  const sent = t.progress
  const ret = pump(t, input, base, out, -1, count - sent)
  if (ret > 0) {
    if (offsetAddr === 0) setPosition(t, input, base + ret)
    else if (t.writeU64(offsetAddr, base + ret) < 0) return -EFAULT
    t.progress += ret
    if (out.path !== null) fsnotify(out.path.dentry, IN_MODIFY)
  }
  const total = t.progress
  if (ret < 0 && ret !== -EAGAIN) return total > 0 ? total : ret
  const ended = ret >= 0 && (total >= count || !out.writesFully || inputEnded)
  if (ended) return total
  if (out.waitQueue === null || (out.flags & O_NONBLOCK) !== 0) return total > 0 ? total : ret
  const waiting = t.waitOn(out.waitQueue, EPOLLOUT, ERESTARTSYS)
  return waiting !== BLOCK && total > 0 ? total : waiting
}

/** copy_file_range(2). */
export function sysCopyFileRange(t: Task): SysRet {
  if (t.argU32(5) !== 0) return -EINVAL
  const input = t.fds.get(t.argI32(0))
  const out = t.fds.get(t.argI32(2))
  if (input === undefined || out === undefined) return -EBADF
  const inAddr = t.argPtr(1)
  const outAddr = t.argPtr(3)
  const inPos = inAddr === 0 ? position(t, input) : readOffset(t, inAddr)
  const outPos = outAddr === 0 ? position(t, out) : readOffset(t, outAddr)
  if (Number.isNaN(inPos) || Number.isNaN(outPos)) return -EFAULT
  const inType = input.inode.mode & S_IFMT
  const outType = out.inode.mode & S_IFMT
  if (inType === S_IFDIR || outType === S_IFDIR) return -EISDIR
  if (inType !== S_IFREG || outType !== S_IFREG) return -EINVAL
  if (!input.readable || !out.writable || (out.flags & O_APPEND) !== 0) return -EBADF
  if (inPos < 0 || outPos < 0) return -EINVAL
  let len = Math.min(t.argPtr(4), MAX_RW_COUNT)
  len = Math.min(len, Math.max(0, input.inode.size - inPos))
  if (input.inode === out.inode && outPos < inPos + len && inPos < outPos + len) return -EINVAL
  if (len === 0) return 0
  const ret = pump(t, input, inPos, out, outPos, len)
  if (ret <= 0) return ret
  if (inAddr === 0) setPosition(t, input, inPos + ret)
  else if (t.writeU64(inAddr, inPos + ret) < 0) return -EFAULT
  if (outAddr === 0) setPosition(t, out, outPos + ret)
  else if (t.writeU64(outAddr, outPos + ret) < 0) return -EFAULT
  if (out.path !== null) fsnotify(out.path.dentry, IN_MODIFY)
  return ret
}

const SPLICE_F_NONBLOCK = 2
const SPLICE_F_ALL = 15

/** A pipe that holds bytes; 0 at its end, −EAGAIN, or what waiting for it returns. `true`: there are some. */
function awaitBytes(t: Task, pipe: Pipe, nonblock: boolean): SysRet | true {
  if (!pipe.buffer.empty) return true
  if (pipe.writers === 0) return 0
  return nonblock ? -EAGAIN : t.waitOn(pipe.readQueue, EPOLLIN, ERESTARTSYS)
}
function awaitSpace(t: Task, pipe: Pipe, nonblock: boolean): SysRet | true {
  if (pipe.readers === 0) {
    sendSigpipe(t)
    return -EPIPE
  }
  if (!pipe.buffer.full) return true
  return nonblock ? -EAGAIN : t.waitOn(pipe.writeQueue, EPOLLOUT, ERESTARTSYS)
}

/** splice(2): one side at least is a pipe. */
export function sysSplice(t: Task): SysRet {
  const flags = t.argU32(5)
  if ((flags & ~SPLICE_F_ALL) !== 0) return -EINVAL
  const len = Math.min(t.argPtr(4), MAX_RW_COUNT)
  if (len === 0) return 0
  const input = t.fds.get(t.argI32(0))
  const out = t.fds.get(t.argI32(2))
  if (input === undefined || out === undefined || !input.readable || !out.writable) return -EBADF
  const inAddr = t.argPtr(1)
  const outAddr = t.argPtr(3)
  const from = input instanceof PipeFile ? input.pipe : null
  const to = out instanceof PipeFile ? out.pipe : null
  if ((from !== null && inAddr !== 0) || (to !== null && outAddr !== 0)) return -ESPIPE
  const nonblock = (flags & SPLICE_F_NONBLOCK) !== 0
  if (from !== null && to !== null)
    return pipeToPipe(t, from, to, len, nonblock || ((input.flags | out.flags) & O_NONBLOCK) !== 0)
  if (from !== null) return pipeToFile(t, from, out, outAddr, len, nonblock || (input.flags & O_NONBLOCK) !== 0)
  if (to !== null) return fileToPipe(t, input, inAddr, to, len, nonblock || (out.flags & O_NONBLOCK) !== 0)
  return -EINVAL
}

function pipeToPipe(t: Task, from: Pipe, to: Pipe, len: number, nonblock: boolean): SysRet {
  if (from === to) return -EINVAL
  const bytes = awaitBytes(t, from, nonblock)
  if (bytes !== true) return bytes
  const space = awaitSpace(t, to, nonblock)
  if (space !== true) return space
  const n = from.buffer.peek(CHUNK, 0, Math.min(len, CHUNK.length, to.buffer.space))
  to.buffer.put(CHUNK, 0, n)
  from.buffer.discard(n)
  from.wakeWriters()
  to.wakeReaders()
  return n
}

function pipeToFile(
  t: Task,
  from: Pipe,
  out: FileDescription,
  outAddr: number,
  len: number,
  nonblock: boolean,
): SysRet {
  if ((out.flags & O_APPEND) !== 0) return -EINVAL
  let pos = -1
  if (outAddr !== 0) {
    if (!out.seekable) return -EINVAL
    pos = readOffset(t, outAddr)
    if (Number.isNaN(pos)) return -EFAULT
    if (pos < 0) return -EINVAL
  }
  const bytes = awaitBytes(t, from, nonblock)
  if (bytes !== true) return bytes
  const n = from.buffer.peek(CHUNK, 0, Math.min(len, CHUNK.length))
  // Streams keep their own account of progress; a splice is one transfer.
  const progress = t.progress
  const ret = out.seekable
    ? writeFile(t, out, new KernelIovIter(CHUNK, 0, n), pos)
    : out.write(t, new KernelIovIter(CHUNK, 0, n), -1)
  t.progress = progress
  if (ret === -EAGAIN && !nonblock && (out.flags & O_NONBLOCK) === 0 && out.waitQueue !== null) {
    return t.waitOn(out.waitQueue, EPOLLOUT, ERESTARTSYS)
  }
  if (ret > 0) {
    from.buffer.discard(ret)
    from.wakeWriters()
    if (outAddr !== 0 && t.writeU64(outAddr, pos + ret) < 0) return -EFAULT
  }
  return ret
}

function fileToPipe(t: Task, input: FileDescription, inAddr: number, to: Pipe, len: number, nonblock: boolean): SysRet {
  let pos = -1
  if (inAddr !== 0) {
    if (!input.seekable) return -EINVAL
    pos = readOffset(t, inAddr)
    if (Number.isNaN(pos)) return -EFAULT
    if (pos < 0) return -EINVAL
  }
  const space = awaitSpace(t, to, nonblock)
  if (space !== true) return space
  const max = Math.min(len, CHUNK.length, to.buffer.space)
  const n = readFile(t, input, new KernelIovIter(CHUNK, 0, max), pos, nonblock)
  if (n <= 0) return n
  to.buffer.put(CHUNK, 0, n)
  to.wakeReaders()
  if (inAddr !== 0 && t.writeU64(inAddr, pos + n) < 0) return -EFAULT
  return n
}

/** tee(2): a copy from pipe to pipe that takes nothing. */
export function sysTee(t: Task): SysRet {
  const flags = t.argU32(3)
  if ((flags & ~SPLICE_F_ALL) !== 0) return -EINVAL
  const len = Math.min(t.argPtr(2), MAX_RW_COUNT)
  if (len === 0) return 0
  const input = t.fds.get(t.argI32(0))
  const out = t.fds.get(t.argI32(1))
  if (input === undefined || out === undefined || !input.readable || !out.writable) return -EBADF
  if (!(input instanceof PipeFile) || !(out instanceof PipeFile) || input.pipe === out.pipe) return -EINVAL
  const nonblock = (flags & SPLICE_F_NONBLOCK) !== 0 || ((input.flags | out.flags) & O_NONBLOCK) !== 0
  const bytes = awaitBytes(t, input.pipe, nonblock)
  if (bytes !== true) return bytes
  const space = awaitSpace(t, out.pipe, nonblock)
  if (space !== true) return space
  const n = input.pipe.buffer.peek(CHUNK, 0, Math.min(len, CHUNK.length, out.pipe.buffer.space))
  out.pipe.buffer.put(CHUNK, 0, n)
  out.pipe.wakeReaders()
  return n
}

/** vmsplice(2): pages are copied, which nobody can tell but by the time it takes. */
export function sysVmsplice(t: Task): SysRet {
  const flags = t.argU32(3)
  if ((flags & ~SPLICE_F_ALL) !== 0) return -EINVAL
  const file = t.fds.get(t.argI32(0))
  if (file === undefined) return -EBADF
  if (!(file instanceof PipeFile)) return -EBADF
  const iter = importIovec(t, t.argPtr(1), t.argPtr(2))
  if (typeof iter === 'number') return iter
  if (iter.remaining === 0) return 0
  const nonblock = (flags & SPLICE_F_NONBLOCK) !== 0
  return file.writable ? writeFile(t, file, iter, -1, nonblock) : readFile(t, file, iter, -1, nonblock)
}
