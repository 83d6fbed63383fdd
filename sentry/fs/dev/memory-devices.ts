/**
 * The memory devices: null, zero, full, random, urandom, kmsg (Linux: drivers/char/mem.c, drivers/char/random.c,
 * mem(4) and null(4)).
 *
 * They never block and keep no state but the opener's position, which null and zero do not even move.
 */

import { close, ftruncate, getrandom, memfdCreate } from '../../../native/host.ts'
import { EAGAIN, EFAULT, EINVAL, ENOSPC, EPERM } from '../../abi/errno.ts'
import { CAP_SYSLOG } from '../../kernel/credentials.ts'
import type { SysRet } from '../../kernel/sysret.ts'
import type { Task } from '../../kernel/task.ts'
import type { IovIter } from '../../mm/iov-iter.ts'
import { FileDescription } from '../../vfs/file-description.ts'
import type { Inode } from '../../vfs/inode.ts'
import type { Path } from '../../vfs/path.ts'
import { registerCharDevice } from './char-device.ts'

const MEM_MAJOR = 1
const ZEROES = new Uint8Array(64 * 1024)
const RANDOM = new Uint8Array(64 * 1024)

abstract class MemoryDevice extends FileDescription {
  private readonly node: Inode

  constructor(node: Inode, path: Path, flags: number) {
    super(flags, path)
    this.node = node
  }
  get inode(): Inode {
    return this.node
  }
  override get seekable(): boolean {
    return true
  }
  /** Anything goes, and nothing moves. */
  override seek(_t: Task, _offset: number, _whence: number): SysRet {
    this.pos = 0
    return 0
  }
}

/** Fills the iterator from `source`, which `refill` renews before each piece. */
function fill(iter: IovIter, source: Uint8Array, refill: ((len: number) => number) | null): SysRet {
  let done = 0
  while (iter.remaining > 0) {
    const want = Math.min(iter.remaining, source.length)
    if (refill !== null) {
      const err = refill(want)
      if (err < 0) return done > 0 ? done : err
    }
    const n = iter.copyTo(source, 0, want)
    done += n
    if (n < want) return done > 0 ? done : -EFAULT
  }
  return done
}

function swallow(iter: IovIter): SysRet {
  const n = iter.remaining
  iter.skip(n)
  return n
}

class NullDevice extends MemoryDevice {
  override read(): SysRet {
    return 0
  }
  override write(_t: Task, iter: IovIter): SysRet {
    return swallow(iter)
  }
}

class ZeroDevice extends MemoryDevice {
  /** Backs shared mappings; a sparse memfd as large as any mapping may be. */
  private fd = -1

  override read(_t: Task, iter: IovIter): SysRet {
    return fill(iter, ZEROES, null)
  }
  override write(_t: Task, iter: IovIter): SysRet {
    return swallow(iter)
  }
  override mmapFd(_write: boolean): number {
    if (this.fd >= 0) return this.fd
    const fd = memfdCreate('zero', 1)
    if (fd < 0) return fd
    const err = ftruncate(fd, 2 ** 46)
    if (err < 0) {
      close(fd)
      return err
    }
    this.fd = fd
    return fd
  }
  protected override release(): void {
    if (this.fd >= 0) close(this.fd)
    this.fd = -1
  }
}

class FullDevice extends MemoryDevice {
  override read(_t: Task, iter: IovIter): SysRet {
    return fill(iter, ZEROES, null)
  }
  override write(): SysRet {
    return -ENOSPC
  }
}

const RNDGETENTCNT = 0x80045200
const RNDADDTOENTCNT = 0x40045201
const RNDADDENTROPY = 0x40085203

class RandomDevice extends MemoryDevice {
  override read(_t: Task, iter: IovIter): SysRet {
    return fill(iter, RANDOM, (len) => getrandom(RANDOM, len, 0))
  }
  override write(_t: Task, iter: IovIter): SysRet {
    return swallow(iter)
  }
  override ioctl(t: Task, cmd: number, arg: number): SysRet {
    if (cmd >>> 0 === RNDGETENTCNT) return t.writeU32(arg, 256)
    if (cmd >>> 0 === RNDADDTOENTCNT || cmd >>> 0 === RNDADDENTROPY) return -EPERM
    return -EINVAL
  }
}

/** The kernel log: accepts lines (and drops them), has none to read. */
class KmsgDevice extends MemoryDevice {
  override read(): SysRet {
    return -EAGAIN
  }
  override write(_t: Task, iter: IovIter): SysRet {
    return swallow(iter)
  }
}

registerCharDevice(MEM_MAJOR, 3, (_t, inode, path, flags) => new NullDevice(inode, path, flags))
registerCharDevice(MEM_MAJOR, 5, (_t, inode, path, flags) => new ZeroDevice(inode, path, flags))
registerCharDevice(MEM_MAJOR, 7, (_t, inode, path, flags) => new FullDevice(inode, path, flags))
registerCharDevice(MEM_MAJOR, 8, (_t, inode, path, flags) => new RandomDevice(inode, path, flags))
registerCharDevice(MEM_MAJOR, 9, (_t, inode, path, flags) => new RandomDevice(inode, path, flags))
registerCharDevice(MEM_MAJOR, 11, (t, inode, path, flags) =>
  t.creds.capable(CAP_SYSLOG) ? new KmsgDevice(inode, path, flags) : -EPERM,
)
