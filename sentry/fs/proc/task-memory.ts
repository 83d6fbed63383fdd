/**
 * /proc/PID/{cmdline,environ,auxv,mem,pagemap}: bytes of another process's memory (Linux: fs/proc/base.c).
 */
import { EFAULT, EINVAL, EIO } from '../../abi/errno.ts'
import type { SysRet } from '../../kernel/sysret.ts'
import type { Task } from '../../kernel/task.ts'
import { readForced, writeForced } from '../../mm/forced-access.ts'
import type { IovIter } from '../../mm/iov-iter.ts'
import type { MemoryManager } from '../../mm/memory-manager.ts'
import { FileDescription } from '../../vfs/file-description.ts'
import { type Inode, S_IFREG } from '../../vfs/inode.ts'
import type { Path } from '../../vfs/path.ts'
import { PseudoInode } from '../pseudo/inode.ts'
import type { Subject } from './subject.ts'
import type { ProcSuperBlock } from './super-block.ts'
import { ownByTask } from './task-inode.ts'

/** Arguments and environment together are at most a quarter of the stack limit; more is a lie of the process. */
const MAX_TEXT = 6 * 1024 * 1024
const EMPTY = new Uint8Array(0)

function readRange(mm: MemoryManager, start: number, end: number): Uint8Array {
  const len = Math.min(end - start, MAX_TEXT)
  if (start === 0 || len <= 0) return EMPTY
  const bytes = new Uint8Array(len)
  return bytes.subarray(0, mm.copyIn(start, bytes, 0, len))
}

/** /proc/PID/cmdline: argv, or what setproctitle(3) made of argv and environment. */
export function renderCmdline(s: Subject): Uint8Array {
  const mm = s.mm
  if (mm === null) return EMPTY
  const args = readRange(mm, mm.argStart, mm.argEnd)
  if (args.length === 0 || args[args.length - 1] === 0 || args.length < mm.argEnd - mm.argStart) return args
  const all = readRange(mm, mm.argStart, Math.max(mm.argEnd, mm.envEnd))
  const nul = all.indexOf(0)
  return nul < 0 ? all : all.subarray(0, nul + 1)
}

/** /proc/PID/environ. */
export function renderEnviron(s: Subject): Uint8Array {
  const mm = s.mm
  return mm === null ? EMPTY : readRange(mm, mm.envStart, mm.envEnd)
}

/** /proc/PID/auxv. */
export function renderAuxv(s: Subject): Uint8Array {
  return s.mm?.auxv ?? EMPTY
}

const CHUNK = new Uint8Array(64 * 1024)

/** Bytes of the address space; the position is the address. */
class MemDescription extends FileDescription {
  private readonly file: Inode
  private readonly mm: MemoryManager | null

  constructor(file: Inode, path: Path, flags: number, mm: MemoryManager | null) {
    super(flags, path)
    this.file = file
    this.mm = mm
  }
  get inode(): Inode {
    return this.file
  }
  override get seekable(): boolean {
    return true
  }
  override seek(_t: Task, offset: number, whence: number): SysRet {
    const target = whence === 0 ? offset : whence === 1 ? this.pos + offset : Number.NaN
    if (!(target >= 0)) return -EINVAL
    this.pos = target
    return target
  }

  private transfer(t: Task, iter: IovIter, addr: number, write: boolean): SysRet {
    const mm = this.mm
    // The last user is gone: end of file, as for an exited process.
    if (mm === null || mm.vmas.length === 0) return 0
    let done = 0
    while (iter.remaining > 0) {
      const want = Math.min(iter.remaining, CHUNK.length)
      const got = write ? iter.copyFrom(CHUNK, 0, want) : readForced(t, mm, addr + done, CHUNK, 0, want)
      const put = write ? writeForced(t, mm, addr + done, CHUNK, 0, got) : iter.copyTo(CHUNK, 0, got)
      done += put
      if (put < want) {
        if (done > 0) return done
        return (write ? got === 0 : got > 0) ? -EFAULT : -EIO
      }
    }
    return done
  }
  override read(t: Task, iter: IovIter, pos: number): SysRet {
    return this.transfer(t, iter, pos < 0 ? this.pos : pos, false)
  }
  override write(t: Task, iter: IovIter, pos: number): SysRet {
    return this.transfer(t, iter, pos < 0 ? this.pos : pos, true)
  }
}

const PAGE = 4096

/** One 64-bit word per page: present or not, never a frame number (as without CAP_SYS_ADMIN). */
class PagemapDescription extends MemDescription {
  private readonly pages: MemoryManager | null

  constructor(file: Inode, path: Path, flags: number, mm: MemoryManager | null) {
    super(file, path, flags, mm)
    this.pages = mm
  }
  override read(_t: Task, iter: IovIter, pos: number): SysRet {
    const mm = this.pages
    const at = pos < 0 ? this.pos : pos
    if (at % 8 !== 0 || iter.remaining % 8 !== 0) return -EINVAL
    if (mm === null) return 0
    const first = at / 8
    const words = Math.min(iter.remaining / 8, CHUNK.length / 8, Math.max(0, mm.taskSize / PAGE - first))
    CHUNK.fill(0, 0, words * 8)
    for (let i = 0; i < words; i++) {
      const v = mm.find((first + i) * PAGE)
      if (v !== undefined) CHUNK[8 * i + 7] = 0x80 | (v.file !== null || v.shared ? 0x20 : 0)
    }
    const put = iter.copyTo(CHUNK, 0, words * 8)
    return put > 0 || words === 0 ? put : -EFAULT
  }
  override write(): SysRet {
    return -EINVAL
  }
}

/** The inodes of mem and pagemap. */
export class MemFile extends PseudoInode {
  protected override readonly fixedMode = true
  private readonly subject: Subject
  private readonly pagemap: boolean

  constructor(sb: ProcSuperBlock, subject: Subject, permissions: number, ino: number, pagemap: boolean) {
    super(sb, S_IFREG | permissions, ino)
    this.subject = subject
    this.pagemap = pagemap
    ownByTask(this, subject)
  }
  override get alive(): boolean {
    return this.subject.alive
  }
  override revalidate(): number {
    ownByTask(this, this.subject)
    return 0
  }
  open(t: Task, path: Path, flags: number): FileDescription | number {
    const err = this.subject.check(t)
    if (err < 0) return err
    const mm = this.subject.mm
    return this.pagemap ? new PagemapDescription(this, path, flags, mm) : new MemDescription(this, path, flags, mm)
  }
}
