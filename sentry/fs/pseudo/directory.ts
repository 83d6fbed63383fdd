/**
 * Directories and links of generated file systems.
 *
 * A TreeDirectory is built once and has fixed entries. Directories whose entries follow the kernel's state subclass
 * PseudoDirectory and answer lookup() and readdir() from that state.
 */
import { ENOENT } from '../../abi/errno.ts'
import type { Task } from '../../kernel/task.ts'
import { DirectoryDescription } from '../../vfs/directory-description.ts'
import type { FileDescription } from '../../vfs/file-description.ts'
import { type DirEmitter, type Inode, S_IFDIR, S_IFLNK, S_IFMT } from '../../vfs/inode.ts'
import type { Path } from '../../vfs/path.ts'

import { PseudoInode, type PseudoSuperBlock } from './inode.ts'

/** DT_* of an inode. */
export const direntType = (inode: Inode): number => (inode.mode & S_IFMT) >> 12
export const DT_DIR = 4
export const DT_LNK = 10
export const DT_REG = 8

export abstract class PseudoDirectory extends PseudoInode {
  constructor(sb: PseudoSuperBlock, permissions: number, ino?: number) {
    super(sb, S_IFDIR | permissions, ino)
    this.nlink = 2
  }

  abstract override lookup(name: string): Inode | number
  abstract override readdir(t: Task, pos: number, out: DirEmitter): number

  open(_t: Task, path: Path, flags: number): FileDescription | number {
    return new DirectoryDescription(path, flags)
  }
}

/** Fixed entries in the order they were added. */
export class TreeDirectory extends PseudoDirectory {
  protected readonly entries = new Map<string, Inode>()
  private list: [string, Inode][] | null = null

  lookup(name: string): Inode | number {
    return this.entries.get(name) ?? -ENOENT
  }

  /** Adds an entry; returns it. */
  add<T extends Inode>(name: string, inode: T): T {
    this.entries.set(name, inode)
    this.list = null
    if (inode.isDir) this.nlink++
    return inode
  }

  /** The sub-directory of that name, made if missing. */
  dir(name: string, permissions = 0o555): TreeDirectory {
    const have = this.entries.get(name)
    if (have instanceof TreeDirectory) return have
    return this.add(name, new TreeDirectory(this.sb as PseudoSuperBlock, permissions))
  }

  /** How entries are listed; proc and sysfs each have an order of their own. */
  protected order(a: string, b: string): number {
    return a < b ? -1 : a > b ? 1 : 0
  }

  readdir(_t: Task, pos: number, out: DirEmitter): number {
    if (this.list === null) this.list = [...this.entries].sort((a, b) => this.order(a[0], b[0]))
    const list = this.list
    for (let i = Math.max(0, pos - 2); i < list.length; i++) {
      const [name, inode] = list[i]!
      if (!out.emit(name, inode.ino, direntType(inode), i + 3)) return 0
    }
    return 0
  }
}

/** A symbolic link with a text; what it names is looked up like any path. */
export class PseudoSymlink extends PseudoInode {
  private readonly text: string | ((t: Task) => string | number)

  constructor(sb: PseudoSuperBlock, text: string | ((t: Task) => string | number)) {
    super(sb, S_IFLNK | 0o777)
    this.text = text
  }
  override readlink(t: Task): string | number {
    return typeof this.text === 'string' ? this.text : this.text(t)
  }
  open(): number {
    return -ENOENT
  }
}
