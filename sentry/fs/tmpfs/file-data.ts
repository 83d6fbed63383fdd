/**
 * The bytes of an in-memory file. Small files live in a Buffer; larger or mapped ones in a host memfd, so that mmap, holes
 * and sendfile are the host's.
 *
 * Invariants: at most one of `inline` and `fd` holds data; inline bytes behind `size` are zero; a memfd's size is `size`.
 */
import {
  fallocate,
  ftruncate,
  close as hostClose,
  lseek,
  memfdCreate,
  pread,
  raw,
  reopen,
  statxFd,
} from '../../../native/host.ts'
import { EFAULT, ENXIO } from '../../abi/errno.ts'
import { O_RDONLY } from '../../abi/fcntl.ts'
import type { IovIter } from '../../mm/iov-iter.ts'

/** Above this a file moves to a memfd: one host descriptor then costs less than the copy. */
const INLINE_MAX = 16 * 1024
const MFD_CLOEXEC = 1
const MFD_ALLOW_SEALING = 2
const STATX_BLOCKS = 0x400
const STATX = new Uint8Array(256)
const STATX_VIEW = new DataView(STATX.buffer)
const OFFSET = new Float64Array(1)
const OFFSET_VIEW = new DataView(OFFSET.buffer)
const EMPTY = new Uint8Array(0)
const PAGE = 4096
const FALLOC_KEEP_SIZE = 1
const FALLOC_PUNCH_HOLE = 2

export class FileData {
  size = 0
  private inline: Uint8Array = EMPTY
  private fd = -1
  private roFd = -1
  /** Pages that fallocate(2) promised: they count as taken, but no memory is spent on them before they are written. */
  private reserved = 0

  /** ≥ 0 bytes or −errno; 0 at the end of file. */
  read(iter: IovIter, pos: number): number {
    if (pos >= this.size) return 0
    const n = Math.min(iter.remaining, this.size - pos)
    if (this.fd >= 0) return iter.readFromHost(this.fd, pos, n)
    if (n === 0) return 0
    const copied = iter.copyTo(this.inline, pos, n)
    return copied === 0 ? -EFAULT : copied
  }

  /** Writes at most `max` bytes. */
  write(iter: IovIter, pos: number, max: number): number {
    const len = Math.min(iter.remaining, max)
    if (len === 0) return 0
    const end = pos + len
    if (this.fd < 0 && end <= INLINE_MAX) {
      this.grow(end)
      const copied = iter.copyFrom(this.inline, pos, len)
      if (pos + copied > this.size) this.size = pos + copied
      else if (copied < len && end > this.size) this.inline.fill(0, this.size)
      return copied === 0 ? -EFAULT : copied
    }
    const fd = this.hostFd()
    if (fd < 0) return fd
    const n = iter.writeToHost(fd, pos, len)
    if (n > 0 && pos + n > this.size) this.size = pos + n
    return n
  }

  private grow(capacity: number): void {
    if (this.inline.length >= capacity) return
    let size = Math.max(64, this.inline.length * 2)
    while (size < capacity) size *= 2
    const bigger = new Uint8Array(size)
    bigger.set(this.inline)
    this.inline = bigger
  }

  /** The memfd, made now if there was none, or −errno. */
  hostFd(): number {
    if (this.fd >= 0) return this.fd
    const fd = memfdCreate('tmpfs', MFD_CLOEXEC | MFD_ALLOW_SEALING)
    if (fd < 0) return fd
    if (this.size > 0) {
      const n = raw.LP(18, fd, this.inline, Math.min(this.inline.length, this.size), 0, 0, 0)
      const err = n < 0 ? n : ftruncate(fd, this.size)
      if (err < 0) {
        hostClose(fd)
        return err
      }
    }
    this.inline = EMPTY
    this.fd = fd
    return fd
  }

  /**
   * For mappings that are not to be written: read-only on the host too. Guest code that takes over its stub could turn a
   * shared mapping of the memfd itself into a writable one.
   */
  readOnlyFd(): number {
    if (this.roFd >= 0) return this.roFd
    const fd = this.hostFd()
    if (fd < 0) return fd
    this.roFd = reopen(fd, O_RDONLY)
    return this.roFd
  }

  truncate(size: number): number {
    if (size < this.size) this.reserved = Math.min(this.reserved, Math.ceil(size / PAGE))
    if (this.fd < 0 && size <= INLINE_MAX) {
      this.grow(size)
      if (size < this.size) this.inline.fill(0, size, this.size)
      this.size = size
      return 0
    }
    const fd = this.hostFd()
    if (fd < 0) return fd
    const err = ftruncate(fd, size)
    if (err === 0) this.size = size
    return err
  }

  /** fallocate(2) without FALLOC_FL_PUNCH_HOLE. */
  reserve(keepSize: boolean, offset: number, len: number): number {
    const end = offset + len
    const before = this.pages()
    const err = keepSize || end <= this.size ? 0 : this.truncate(end)
    if (err === 0) {
      this.reserved = Math.max(this.reserved, Math.min(Math.ceil(end / PAGE), before + Math.ceil(len / PAGE)))
    }
    return err
  }

  punchHole(offset: number, len: number): number {
    const fd = this.hostFd()
    if (fd < 0) return fd
    this.reserved = 0
    return fallocate(fd, FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE, offset, len)
  }

  /** SEEK_DATA or SEEK_HOLE from `pos`. */
  seek(pos: number, whence: number): number {
    if (pos >= this.size) return -ENXIO
    if (this.fd >= 0) return lseek(this.fd, pos, whence)
    return whence === 3 ? pos : this.size
  }

  /** Pages that it takes. */
  pages(): number {
    return Math.max(this.reserved, this.filledPages())
  }

  /** Pages that hold data. */
  filledPages(): number {
    if (this.fd < 0) return Math.ceil(Math.min(this.size, this.inline.length) / PAGE)
    statxFd(this.fd, STATX_BLOCKS, STATX)
    return (STATX_VIEW.getUint32(48, true) + STATX_VIEW.getUint32(52, true) * 0x1_0000_0000) / 8
  }

  /** Takes over `size` bytes of a host file (copy-up). 0 or −errno. */
  copyFromHost(source: number, size: number): number {
    if (size <= INLINE_MAX) {
      this.grow(size)
      let at = 0
      while (at < size) {
        const n = pread(source, this.inline.subarray(at, size), size - at, at)
        if (n < 0) return n
        if (n === 0) break
        at += n
      }
      this.size = at
      return 0
    }
    const fd = this.hostFd()
    if (fd < 0) return fd
    OFFSET[0] = 0
    OFFSET_VIEW.setBigUint64(0, 0n, true)
    let done = 0
    while (done < size) {
      const n = raw.LLP(40, fd, source, OFFSET, size - done, 0, 0)
      if (n < 0) return n
      if (n === 0) break
      done += n
    }
    this.size = done
    return 0
  }

  close(): void {
    if (this.roFd >= 0) hostClose(this.roFd)
    this.roFd = -1
    if (this.fd >= 0) hostClose(this.fd)
    this.fd = -1
    this.inline = EMPTY
    this.reserved = 0
    this.size = 0
  }

  get usesHost(): boolean {
    return this.fd >= 0
  }
}
