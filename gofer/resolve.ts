/**
 * From (mount, path) to a directory descriptor and a last name (Linux: the walk of fs/namei.c without its links).
 *
 * What must stay true: no symbolic link, magic link or '..' is ever followed, on no component, whoever changes the tree
 * meanwhile. A cached descriptor belongs to a mount that only we change, and our rename and rmdir drop what they move.
 */
import {
  closeFd,
  type HostMemory,
  O_CLOEXEC,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_PATH,
  openat2,
  openatAddress,
  RESOLVE_BENEATH,
  RESOLVE_NO_MAGICLINKS,
  RESOLVE_NO_SYMLINKS,
} from '../native/host-files.ts'

const RESOLVE = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
const DIRECTORY = O_PATH | O_DIRECTORY
/** What the kernel takes as one path is below PATH_MAX. */
const MAX_PIECE = 3840
const MAX_CACHED_DIRECTORIES = 256
const SLASH = 47
const EFAULT = 14
const ENOTDIR = 20

/** A mount as the server uses it. */
export interface ServedMount {
  readonly id: number
  readonly isDirectory: boolean
  readonly readonly: boolean
  readonly shared: boolean
  readonly allowDevices: boolean
  /** O_PATH descriptor of its root. */
  readonly rootFd: number
  /** Where the root can be opened again: a directory and the name in it. */
  readonly parentFd: number
  readonly rootName: HostMemory
}

/** Where a path leads: a directory and the last name. `release` when done with it. */
export class Place {
  dirfd = -1
  /** Address of the NUL-terminated last name. */
  name = 0
  /** Whether dirfd was opened for this place alone. */
  owned = false

  set(dirfd: number, name: number, owned: boolean): number {
    this.dirfd = dirfd
    this.name = name
    this.owned = owned
    return 0
  }

  release(): void {
    if (this.owned) closeFd(this.dirfd)
    this.owned = false
    this.dirfd = -1
  }
}

export class Resolver {
  /** Directories of exclusive mounts, least recently used first: "id/path" → O_PATH descriptor. */
  private readonly cache = new Map<string, number>()
  /** Linux 5.6; older, or under a container's filter that does not know it, it is missing. */
  private readonly haveOpenat2: boolean

  constructor(useOpenat2 = true) {
    this.haveOpenat2 = useOpenat2 && openat2(-1, 0, O_PATH, 0, RESOLVE) === -EFAULT
  }

  /** Opens one name of a directory, without following it. */
  openName(dirfd: number, name: number, flags: number, mode: number): number {
    const all = flags | O_NOFOLLOW | O_CLOEXEC
    return this.haveOpenat2 ? openat2(dirfd, name, all, mode, RESOLVE) : openatAddress(dirfd, name, all, mode)
  }

  /**
   * Resolves all but the last component of the checked path in bytes [at, at + length) of `memory`, which a NUL
   * follows. The empty path is the mount's root, by the name it has outside. 0 or −errno.
   */
  parent(place: Place, mount: ServedMount, memory: HostMemory, at: number, length: number): number {
    if (length === 0) return place.set(mount.parentFd, mount.rootName.address, false)
    const slash = memory.bytes.lastIndexOf(SLASH, at + length - 1)
    if (slash < at) {
      if (!mount.isDirectory) return -ENOTDIR
      return place.set(mount.rootFd, memory.at(at), false)
    }
    const error = this.directory(place, mount, memory, at, slash - at)
    place.name = memory.at(slash + 1)
    return error
  }

  /** Resolves the whole path to a directory, into `place.dirfd`. 0 or −errno. */
  directory(place: Place, mount: ServedMount, memory: HostMemory, at: number, length: number): number {
    if (!mount.isDirectory) return -ENOTDIR
    if (length === 0) return place.set(mount.rootFd, 0, false)
    if (mount.shared) {
      const fd = this.open(mount.rootFd, memory, at, length)
      return fd < 0 ? fd : place.set(fd, 0, true)
    }
    const key = `${mount.id}/${memory.bytes.toString('latin1', at, at + length)}`
    let fd = this.cache.get(key)
    if (fd === undefined) {
      fd = this.open(mount.rootFd, memory, at, length)
      if (fd < 0) return fd
      if (this.cache.size >= MAX_CACHED_DIRECTORIES) this.forget(this.cache.keys().next().value!)
    } else this.cache.delete(key)
    this.cache.set(key, fd)
    return place.set(fd, 0, false)
  }

  /** A directory is about to lose its name: drops it and everything below. */
  invalidate(mount: ServedMount, path: string): void {
    if (mount.shared) return
    const key = `${mount.id}/${path}`
    for (const known of this.cache.keys()) {
      if (known.startsWith(key) && (known.length === key.length || known.charCodeAt(key.length) === SLASH)) {
        this.forget(known)
      }
    }
  }

  private forget(key: string): void {
    closeFd(this.cache.get(key)!)
    this.cache.delete(key)
  }

  /** An O_PATH descriptor of the directory; in one step where openat2 exists, else one component at a time. */
  private open(rootFd: number, memory: HostMemory, at: number, length: number): number {
    const bytes = memory.bytes
    const end = at + length
    let from = rootFd
    let start = at
    while (start < end) {
      let stop = end
      if (!this.haveOpenat2) {
        const slash = bytes.indexOf(SLASH, start)
        if (slash >= 0 && slash < end) stop = slash
      } else if (end - start > MAX_PIECE) stop = bytes.lastIndexOf(SLASH, start + MAX_PIECE)
      const saved = bytes[stop]!
      bytes[stop] = 0
      const fd = this.openName(from, memory.at(start), DIRECTORY, 0)
      bytes[stop] = saved
      if (from !== rootFd) closeFd(from)
      if (fd < 0) return fd
      from = fd
      start = stop + 1
    }
    return from
  }
}
