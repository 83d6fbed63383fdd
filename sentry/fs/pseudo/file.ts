/**
 * Generated files (Linux: fs/seq_file.c): text that is rendered when the file is read from its start, and kept for
 * the reads that follow on the same description, so that a reader with a small buffer sees one consistent picture.
 */
import { EFAULT, EINVAL, EIO } from '../../abi/errno.ts'
import type { SysRet } from '../../kernel/sysret.ts'
import type { Task } from '../../kernel/task.ts'
import type { IovIter } from '../../mm/iov-iter.ts'
import { FileDescription } from '../../vfs/file-description.ts'
import { type Inode, S_IFREG } from '../../vfs/inode.ts'
import type { Path } from '../../vfs/path.ts'
import { PseudoInode, type PseudoSuperBlock } from './inode.ts'

const EMPTY = new Uint8Array(0)
/** What one write to a generated file may carry; Linux hands its handlers at most a page. */
const MAX_WRITE = 4096

export abstract class PseudoFile extends PseudoInode {
  constructor(sb: PseudoSuperBlock, permissions: number, ino?: number) {
    super(sb, S_IFREG | permissions, ino)
  }

  /** The file's bytes now (text is latin1), or −errno. `t` is the reader. */
  abstract render(t: Task): string | Uint8Array | number

  /** Takes one write; the number of bytes used, or −errno. Linux's answer for files that only show. */
  store(_t: Task, _text: string): number {
    return -EIO
  }

  /** A refusal at open time, or 0. */
  checkOpen(_t: Task, _flags: number): number {
    return 0
  }

  open(t: Task, path: Path, flags: number): FileDescription | number {
    const err = this.checkOpen(t, flags)
    return err < 0 ? err : new PseudoFileDescription(flags, path, this)
  }
}

export class PseudoFileDescription extends FileDescription {
  readonly file: PseudoFile
  private content: Uint8Array | null = null

  constructor(flags: number, path: Path, file: PseudoFile) {
    super(flags, path)
    this.file = file
  }

  get inode(): Inode {
    return this.file
  }
  override get seekable(): boolean {
    return true
  }

  override read(t: Task, iter: IovIter, pos: number): SysRet {
    const at = pos < 0 ? this.pos : pos
    if (at === 0 || this.content === null) {
      const made = this.file.render(t)
      if (typeof made === 'number') return made
      this.content = typeof made === 'string' ? Buffer.from(made, 'latin1') : made
    }
    const content = this.content ?? EMPTY
    if (at >= content.length) return 0
    const want = Math.min(iter.remaining, content.length - at)
    if (want === 0) return 0
    const done = iter.copyTo(content, at, want)
    return done > 0 ? done : -EFAULT
  }

  override write(t: Task, iter: IovIter, _pos: number): SysRet {
    const len = Math.min(iter.remaining, MAX_WRITE)
    const text = Buffer.allocUnsafe(len)
    if (iter.copyFrom(text, 0, len) < len) return -EFAULT
    this.content = null
    return this.file.store(t, text.toString('latin1', 0, len))
  }

  /** seq_lseek: there is no end to seek from. */
  override seek(_t: Task, offset: number, whence: number): SysRet {
    const target = whence === 0 ? offset : whence === 1 ? this.pos + offset : -1
    if (target < 0) return -EINVAL
    this.pos = target
    return target
  }
}

/** A file whose text comes from a function. */
export class TextFile extends PseudoFile {
  private readonly text: (t: Task) => string
  private readonly take: ((t: Task, text: string) => number) | null

  /** `take` stores a written value and returns 0 or −errno. */
  constructor(
    sb: PseudoSuperBlock,
    permissions: number,
    text: (t: Task) => string,
    take: ((t: Task, text: string) => number) | null = null,
  ) {
    super(sb, permissions)
    this.text = text
    this.take = take
  }
  render(t: Task): string {
    return this.text(t)
  }
  override store(t: Task, text: string): number {
    if (this.take === null) return super.store(t, text)
    const err = this.take(t, text)
    return err < 0 ? err : text.length
  }
}
