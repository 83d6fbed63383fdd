/**
 * Regular file of the lower layer, copied up into memory when it is first written (Linux: ovl_copy_up; ours is later: an
 * open for writing alone copies nothing).
 *
 * Until then reads go to one description of the lower file, shared by all opens. A few stay open after the last close:
 * shared libraries are opened again and again, and each open costs a message to the gofer.
 */
import { ENOSPC } from '../../abi/errno.ts'
import { O_RDONLY } from '../../abi/fcntl.ts'
import type { SysRet } from '../../kernel/sysret.ts'
import type { Task } from '../../kernel/task.ts'
import { type IovIter, KernelIovIter } from '../../mm/iov-iter.ts'
import type { FileDescription } from '../../vfs/file-description.ts'
import { Path } from '../../vfs/path.ts'
import { TmpfsFile, TmpfsFileDescription } from '../tmpfs/file.ts'
import type { LowerOrigin } from './origin.ts'
import type { OverlaySuperBlock } from './super-block.ts'

const NO_TASK = null as unknown as Task
const COPY_CHUNK = 256 * 1024

export class OverlayFile extends TmpfsFile {
  declare readonly sb: OverlaySuperBlock
  private copied = false
  private lowerFile: FileDescription | null = null
  private users = 0

  override open(t: Task, path: Path, flags: number): FileDescription | number {
    if (!this.copied) {
      const err = this.openLower(t)
      if (err !== 0) return err
      this.users++
      this.sb.lowerFiles.delete(this)
    }
    return new TmpfsFileDescription(this, path, flags)
  }

  private openLower(t: Task): number {
    if (this.lowerFile !== null) return 0
    const { lower, dentry } = this.origin as LowerOrigin
    const file = lower.open(t, new Path(this.sb.lowerMount, dentry), O_RDONLY)
    if (typeof file === 'number') return file
    this.lowerFile = file
    return 0
  }

  override release(): void {
    if (this.users > 0 && --this.users === 0 && this.lowerFile !== null) this.sb.keepLower(this)
  }

  /** The cache of idle lower descriptions is full. */
  closeLower(): void {
    if (this.lowerFile === null) return
    this.lowerFile.unref()
    this.lowerFile = null
  }

  override readAt(t: Task, iter: IovIter, pos: number): SysRet {
    return this.copied ? super.readAt(t, iter, pos) : this.lowerFile!.read(t, iter, pos)
  }

  override writeAt(iter: IovIter, pos: number): SysRet {
    if (!this.copied) {
      const err = this.copyUp(Number.POSITIVE_INFINITY)
      if (err !== 0) return err
    }
    return super.writeAt(iter, pos)
  }

  protected override resize(size: number): number {
    if (!this.copied) {
      const err = this.copyUp(size)
      if (err !== 0) return err
    }
    return super.resize(size)
  }

  override allocate(mode: number, offset: number, len: number): number {
    if (!this.copied) {
      const err = this.copyUp(Number.POSITIVE_INFINITY)
      if (err !== 0) return err
    }
    return super.allocate(mode, offset, len)
  }

  override seekData(pos: number, whence: number): number {
    if (this.copied) return super.seekData(pos, whence)
    const lower = this.lowerFile!
    const saved = lower.pos
    const at = lower.seek(NO_TASK, pos, whence)
    lower.pos = saved
    return at
  }

  override hostFd(write: boolean): number {
    if (!this.copied && write) {
      const err = this.copyUp(Number.POSITIVE_INFINITY)
      if (err !== 0) return err
    }
    if (this.copied) return super.hostFd(write)
    const err = this.openLower(NO_TASK)
    return err !== 0 ? err : this.lowerFile!.mmapFd(false)
  }

  override revalidate(): number {
    return this.copied ? super.revalidate() : 0
  }

  /** Takes the first `max` bytes of the lower file into memory. 0 or −errno. */
  private copyUp(max: number): number {
    this.changed()
    const size = Math.min(this.size, max)
    let err = 0
    if (size > 0) {
      err = this.openLower(NO_TASK)
      if (err !== 0) return err
      if (this.room(0, size) < size) return -ENOSPC
      const fd = this.lowerFile!.mmapFd(false)
      err = fd >= 0 ? this.data.copyFromHost(fd, size) : this.copyByReading(size)
    }
    if (err !== 0) return err
    this.copied = true
    this.charge()
    this.size = this.data.size
    this.sb.lowerFiles.delete(this)
    this.closeLower()
    return 0
  }

  private copyByReading(size: number): number {
    const chunk = new Uint8Array(Math.min(size, COPY_CHUNK))
    let at = 0
    while (at < size) {
      const n = this.lowerFile!.read(NO_TASK, new KernelIovIter(chunk, 0, Math.min(chunk.length, size - at)), at)
      if (n < 0) return n
      if (n === 0) break
      const put = this.data.write(new KernelIovIter(chunk, 0, n), at, n)
      if (put < 0) return put
      at += n
    }
    return 0
  }

  override evict(): void {
    this.sb.lowerFiles.delete(this)
    this.closeLower()
    super.evict()
  }
}
