/**
 * New mount namespaces (Linux: copy_mnt_ns), for unshare(2) and clone(2) with CLONE_NEWNS.
 */
import type { FsContext } from './fs-context.ts'
import { Mount, MountNamespace } from './mount.ts'
import { Path } from './path.ts'

/** Gives `fs` (not shared with anybody) a copy of its namespace, with root and working directory at the same places. */
export function unshareMounts(fs: FsContext): void {
  const old = fs.namespace
  const copies = new Map<Mount, Mount>()
  const copy = (m: Mount): Mount => {
    const fresh = new Mount(m.sb, m.root, m.flags)
    copies.set(m, fresh)
    return fresh
  }
  const namespace = new MountNamespace(copy(old.root))
  // Parents before children, which the order of mounting does not promise after a move.
  const todo = [old.root]
  for (let i = 0; i < todo.length; i++) {
    const parent = todo[i]!
    if (parent.children === null) continue
    for (const [mountpoint, child] of parent.children) {
      namespace.attach(copy(child), copies.get(parent)!, mountpoint)
      todo.push(child)
    }
  }
  const moved = (path: Path): Path => {
    const mount = copies.get(path.mount)
    return mount === undefined ? path : new Path(mount, path.dentry)
  }
  fs.setRoot(moved(fs.root))
  fs.setCwd(moved(fs.cwd))
  fs.namespace = namespace
}
