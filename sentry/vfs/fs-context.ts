/**
 * Root, working directory and umask of a task (Linux: struct fs_struct), shared by CLONE_FS.
 */
import { Dentry } from './dentry.ts'
import type { MountNamespace } from './mount.ts'
import type { Path } from './path.ts'

export class FsContext {
  namespace: MountNamespace
  root: Path
  cwd: Path
  umask: number
  private refs = 1

  constructor(namespace: MountNamespace, root: Path, cwd: Path, umask: number) {
    this.namespace = namespace
    this.root = root
    this.cwd = cwd
    this.umask = umask
    root.dentry.refs++
    cwd.dentry.refs++
  }

  setCwd(path: Path): void {
    path.dentry.refs++
    this.cwd.dentry.refs--
    this.cwd = path
  }
  /** Which table of names holds for us: the namespace's from its root, else 0, nobody's. */
  get namesRoot(): number {
    const { mount, dentry } = this.root
    return mount === this.namespace.root && dentry === mount.root ? mount.id : 0
  }
  setRoot(path: Path): void {
    Dentry.generation++
    Dentry.roots++
    path.dentry.refs++
    this.root.dentry.refs--
    this.root = path
  }

  clone(): FsContext {
    return new FsContext(this.namespace, this.root, this.cwd, this.umask)
  }
  get shared(): boolean {
    return this.refs > 1
  }
  ref(): this {
    this.refs++
    return this
  }
  unref(): void {
    if (--this.refs > 0) return
    this.root.dentry.refs--
    this.cwd.dentry.refs--
  }
}
