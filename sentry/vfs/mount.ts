/**
 * Mount: a super block's tree attached to a place (Linux: struct mount), and the namespace that holds them.
 */
import { Dentry } from './dentry.ts'
import type { SuperBlock } from './super-block.ts'

export const MS_RDONLY = 1
export const MS_NOSUID = 2
export const MS_NODEV = 4
export const MS_NOEXEC = 8
export const MS_SYNCHRONOUS = 16
export const MS_REMOUNT = 32
export const MS_NOSYMFOLLOW = 256
export const MS_NOATIME = 1024
export const MS_NODIRATIME = 2048
export const MS_BIND = 4096
export const MS_MOVE = 8192
export const MS_REC = 16384
export const MS_PRIVATE = 1 << 18
export const MS_SLAVE = 1 << 19
export const MS_SHARED = 1 << 20
export const MS_UNBINDABLE = 1 << 17
export const MS_RELATIME = 1 << 21
export const MS_STRICTATIME = 1 << 24

let nextMountId = 20

export class Mount {
  readonly id: number = nextMountId++
  readonly sb: SuperBlock
  /** The dentry of `sb` that appears at the mount point (not sb's root for bind mounts of a subtree). */
  readonly root: Dentry
  /** Where it is attached; null for the root of the namespace, and after a detach. */
  parent: Mount | null = null
  mountpoint: Dentry | null = null
  /** Mounts attached to this one, by mount point. A second mount on the same place sits on the root of the first. */
  children: Map<Dentry, Mount> | null = null
  /** MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME | MS_RELATIME. */
  flags: number

  constructor(sb: SuperBlock, root: Dentry, flags: number) {
    this.sb = sb
    this.root = root
    this.flags = flags
  }

  get readonly(): boolean {
    return (this.flags & MS_RDONLY) !== 0 || this.sb.readonly
  }
}

/** The mounts that a container sees (Linux: struct mnt_namespace). */
export class MountNamespace {
  root: Mount
  /** In mount order, as /proc/self/mountinfo lists them. */
  readonly mounts: Mount[] = []

  constructor(root: Mount) {
    this.root = root
    this.mounts.push(root)
    root.sb.mountCount++
  }

  /** The mount attached at (parent, dentry), if any. */
  mountedAt(parent: Mount, dentry: Dentry): Mount | undefined {
    return dentry.mounted === 0 || parent.children === null ? undefined : parent.children.get(dentry)
  }

  attach(mount: Mount, parent: Mount, mountpoint: Dentry): void {
    mount.parent = parent
    mount.mountpoint = mountpoint
    mountpoint.mounted++
    Dentry.generation++
    if (parent.children === null) parent.children = new Map()
    parent.children.set(mountpoint, mount)
    this.mounts.push(mount)
    mount.sb.mountCount++
  }

  /** Detaches one mount (its children must be gone or detached with it). */
  detach(mount: Mount): void {
    Dentry.generation++
    const i = this.mounts.indexOf(mount)
    if (i >= 0) {
      this.mounts.splice(i, 1)
      mount.sb.mountCount--
    }
    if (mount.mountpoint !== null) {
      mount.mountpoint.mounted--
      mount.parent?.children?.delete(mount.mountpoint)
    }
    mount.parent = null
    mount.mountpoint = null
  }
}
