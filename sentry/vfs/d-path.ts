/**
 * From a path back to a name (Linux: fs/d_path.c), for getcwd(2), /proc links and mount tables.
 */
import type { Dentry } from './dentry.ts'
import type { Mount } from './mount.ts'
import type { Path } from './path.ts'

export interface PathName {
  name: string
  /** The walk upwards met the root it was asked about. */
  reachable: boolean
}

/** The absolute name of (mount, dentry) seen from `root`. */
export function pathName(path: Path, root: Path): PathName {
  let mount: Mount = path.mount
  let dentry: Dentry = path.dentry
  let name = ''
  for (;;) {
    if (dentry === root.dentry && mount === root.mount) return { name: name === '' ? '/' : name, reachable: true }
    if (dentry === mount.root) {
      if (mount.parent === null) return { name: name === '' ? '/' : name, reachable: false }
      dentry = mount.mountpoint!
      mount = mount.parent
    } else if (dentry.isRoot) {
      // A bind mount whose root was moved away, or a file system's own root that is not mounted.
      return { name: name === '' ? '/' : name, reachable: false }
    } else {
      name = `/${dentry.name}${name}`
      dentry = dentry.parent
    }
  }
}

export function isDeleted(dentry: Dentry): boolean {
  return dentry.unhashed && !dentry.isRoot
}

/** As /proc/PID/fd/N and /proc/PID/maps show it: with ' (deleted)' behind the name of what is gone. */
export function describePath(path: Path, root: Path): string {
  const { name } = pathName(path, root)
  return isDeleted(path.dentry) ? `${name} (deleted)` : name
}

/** The name inside its file system: column 4 of /proc/PID/mountinfo. */
export function dentryName(dentry: Dentry): string {
  let name = ''
  for (let d = dentry; !d.isRoot; d = d.parent) name = `/${d.name}${name}`
  return name === '' ? '/' : name
}
