/**
 * Dentry: a name in a directory, cached (Linux: struct dentry). `inode === null` is a negative entry: the name is known
 * not to exist.
 *
 * Invariants: a child is in `parent.children` under its `name` from d_add until it is unhashed (unlink, rmdir, rename,
 * failed revalidation); an unhashed dentry stays usable by those who hold it (open files, cwd). `mounted` counts
 * mounts on it, so that the walk looks into the mount table only where there is one.
 */
import type { Inode } from './inode.ts'
import { withdrawAllNames, withdrawNames } from './known-names.ts'
import type { SuperBlock } from './super-block.ts'

export class Dentry {
  /** Entries in all trees, roughly: vfs/dentry-cache.ts bounds it. */
  static count = 0
  /** The words that hold {@link generation}, {@link roots} and the changes: the platform's, whose stubs look at them. */
  static names: Uint32Array = new Uint32Array([1, 0, 0])
  /** Moves when walks may lead elsewhere than before, but for moves and removals of plain files: see walk-cache.ts. */
  static get generation(): number {
    return Dentry.names[0]!
  }
  static set generation(generation: number) {
    Dentry.names[0] = generation
    // 2^32 generations ago it was the same; and none is 0.
    if (Dentry.names[0] !== 0) return
    withdrawAllNames()
    Dentry.names[0] = 1
  }
  /** Moves with every change of anybody's root. */
  static get roots(): number {
    return Dentry.names[1]!
  }
  static set roots(roots: number) {
    Dentry.names[1] = roots
  }
  /** A file's attributes are about to change, or what a descriptor stands for: Platform.names. */
  static changes(): void {
    if (!Dentry.attributesTold) return
    Dentry.attributesTold = false
    Dentry.names[2]!++
  }
  /** Some stub has a file's attributes since the last change. Without any, the word stays: stubs look at its cache line. */
  static attributesTold = false

  readonly sb: SuperBlock
  parent: Dentry
  name: string
  inode: Inode | null
  children: Map<string, Dentry> | null = null
  /** Mounts on this dentry, in any namespace. */
  mounted = 0
  unhashed = false
  /** Guests know about it (known-names.ts): 1 + the entry, −1 for several, 0 for none. */
  known = 0
  /** Moves with each move or removal of this dentry. */
  version = 0
  /** Users other than the tree: open files, cwd, root, mounts. Negative or unused entries may be dropped when memory is short. */
  refs = 0

  constructor(sb: SuperBlock, parent: Dentry | null, name: string, inode: Inode | null) {
    this.sb = sb
    this.parent = parent ?? (this as unknown as Dentry)
    this.name = name
    this.inode = inode
  }

  get isRoot(): boolean {
    return this.parent === this
  }

  child(name: string): Dentry | undefined {
    return this.children === null ? undefined : this.children.get(name)
  }

  /** Enters a (positive or negative) child, replacing what the name held. */
  add(name: string, inode: Inode | null): Dentry {
    const dentry = new Dentry(this.sb, this, name, inode)
    if (this.children === null) this.children = new Map()
    else this.withdrawChild(name)
    this.children.set(name, dentry)
    Dentry.count++
    return dentry
  }

  /** Gives the dentry a new place (rename): the tree, not the file system. */
  move(parent: Dentry, name: string): void {
    this.moved()
    if (!this.unhashed && this.parent.child(this.name) === this) this.parent.children!.delete(this.name)
    this.parent = parent
    this.name = name
    this.unhashed = false
    if (parent.children === null) parent.children = new Map()
    else parent.withdrawChild(name)
    parent.children.set(name, this)
  }

  private withdrawChild(name: string): void {
    const old = this.children!.get(name)
    if (old !== undefined && old.known !== 0) withdrawNames(old)
  }

  private moved(): void {
    this.version++
    if (this.known !== 0) withdrawNames(this)
    if (this.inode !== null && !this.inode.isReg && !this.sb.shared) Dentry.generation++
  }

  /** Takes the dentry out of its parent; holders keep it. */
  unhash(): void {
    if (this.unhashed || this.isRoot) return
    this.unhashed = true
    this.moved()
    if (this.parent.child(this.name) === this) this.parent.children!.delete(this.name)
  }
}
