/**
 * getdents(2), getdents64(2): entries are packed into one buffer and copied out together.
 */
import { EBADF, EFAULT, EINVAL, ENOTDIR } from '../sentry/abi/errno.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import { type DirRecords, emitEach } from '../sentry/vfs/dir-records.ts'
import type { DirEmitter } from '../sentry/vfs/inode.ts'

/** What one call returns at most; programs ask for 32 KiB. */
const MAX_BYTES = 64 * 1024
const BUF = Buffer.alloc(MAX_BYTES)
const VIEW = new DataView(BUF.buffer, BUF.byteOffset, MAX_BYTES)
const TWO32 = 0x1_0000_0000

class DirentPacker implements DirEmitter {
  /** struct linux_dirent (type in the last byte) instead of linux_dirent64. */
  legacy = false
  limit = 0
  used = 0
  /** The first entry did not fit. */
  tooSmall = false

  start(limit: number, legacy: boolean): this {
    this.limit = Math.min(limit, MAX_BYTES)
    this.legacy = legacy
    this.used = 0
    this.tooSmall = false
    return this
  }

  emit(name: string, ino: number, type: number, next: number): boolean {
    const at = this.used
    // Header, name, NUL, and for the old format the type; in eights.
    const size = (20 + name.length + 7) & ~7
    if (at + size > this.limit) {
      if (at === 0) this.tooSmall = true
      return false
    }
    VIEW.setUint32(at, ino >>> 0, true)
    VIEW.setUint32(at + 4, Math.floor(ino / TWO32) >>> 0, true)
    VIEW.setUint32(at + 8, next >>> 0, true)
    VIEW.setUint32(at + 12, Math.floor(next / TWO32) >>> 0, true)
    VIEW.setUint16(at + 16, size, true)
    let end: number
    if (this.legacy) end = at + 18 + BUF.latin1Write(name, at + 18)
    else {
      BUF[at + 18] = type
      end = at + 19 + BUF.latin1Write(name, at + 19)
    }
    BUF.fill(0, end, at + size)
    if (this.legacy) BUF[at + size - 1] = type
    this.used = at + size
    return true
  }

  emitRecords(records: DirRecords, first: number): number {
    if (this.legacy) return emitEach(this, records, first)
    const { bytes, starts } = records
    const from = starts[first]!
    const end = from + this.limit - this.used
    let last = first
    while (last < starts.length - 1 && starts[last + 1]! <= end) last++
    if (last === first && last < starts.length - 1 && this.used === 0) this.tooSmall = true
    BUF.set(bytes.subarray(from, starts[last]!), this.used)
    this.used += starts[last]! - from
    return last - first
  }
}
const PACKER = new DirentPacker()

function getdents(t: Task, legacy: boolean): SysRet {
  const file = t.fds.get(t.argI32(0))
  if (file === undefined || !file.readable) return -EBADF
  if (!file.inode.isDir) return -ENOTDIR
  const saved = file.pos
  const packer = PACKER.start(t.argU32(2), legacy)
  const err = file.readdir(t, packer)
  if (packer.used === 0) return err !== 0 ? err : packer.tooSmall ? -EINVAL : 0
  if (t.copyOut(t.argPtr(1), BUF, 0, packer.used) === packer.used) return packer.used
  file.pos = saved
  return -EFAULT
}

export function sysGetdents(t: Task): SysRet {
  return getdents(t, true)
}
export function sysGetdents64(t: Task): SysRet {
  return getdents(t, false)
}
