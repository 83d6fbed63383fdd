/**
 * Path walk (Linux: fs/namei.c, link_path_walk and friends): a name becomes a {@link Path}.
 *
 * The walk is a loop over components with one shared state ({@link Nameidata}); a symbolic link replaces what is left of
 * the name by its text followed by the rest. It never re-enters itself and calls nothing that could. '..' stops at the
 * root of the walk and leaves mounts upwards; every step into a dentry goes on into what is mounted there.
 */
import { EACCES, EBADF, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, EXDEV } from '../abi/errno.ts'
import { AT_FDCWD } from '../abi/fcntl.ts'
import type { Task } from '../kernel/task.ts'
import type { Dentry } from './dentry.ts'
import { dropUnusedDentries } from './dentry-cache.ts'
import { type Glance, type Inode, S_IFDIR, S_IFLNK, S_IFMT, S_ISVTX } from './inode.ts'
import { tellAbsent } from './known-names.ts'
import { type Mount, MS_NOSYMFOLLOW } from './mount.ts'
import { Path } from './path.ts'
import { genericPermission, MAY_EXEC } from './permission.ts'
import { touchAtime } from './times.ts'
import { cachedWalk, rememberWalk } from './walk-cache.ts'

/** Follow a symbolic link in the last component. */
export const LOOKUP_FOLLOW = 1
/** The result must be a directory. */
export const LOOKUP_DIRECTORY = 2
/** AT_EMPTY_PATH: '' names the starting point itself. */
export const LOOKUP_EMPTY = 4
/** What is found will be opened for reading: a hint for prefetch. */
export const LOOKUP_OPEN = 8
/** openat2(2)'s RESOLVE_*. */
export const LOOKUP_NO_XDEV = 0x10
export const LOOKUP_NO_MAGICLINKS = 0x20
export const LOOKUP_NO_SYMLINKS = 0x40
export const LOOKUP_BENEATH = 0x80
export const LOOKUP_IN_ROOT = 0x100
/** Walks that are not kept in the cache. */
const LOOKUP_SPECIAL = 0x1f0
const LOOKUP_SCOPED = LOOKUP_BENEATH | LOOKUP_IN_ROOT

export const NAME_MAX = 255
const MAX_LINKS = 40
const SLASH = 47
const DOT = 46
const MAX_PREFETCH = 32
/** Everybody may search and list the directory. */
const ANYBODY = 0o555

export const LAST_NORM = 0
export const LAST_ROOT = 1
export const LAST_DOT = 2
export const LAST_DOTDOT = 3

/** fs.protected_symlinks: 1 as Debian and most distributions set it. */
export const sysctl = { protectedSymlinks: 1 }

export class Nameidata {
  t!: Task
  mount!: Mount
  dentry!: Dentry
  rootMount!: Mount
  rootDentry!: Dentry
  flags = 0
  links = 0
  /** After {@link walk} in parent mode: the last component, where `mount`/`dentry` is its directory. */
  last = ''
  lastType = LAST_ROOT
  /** The last component was followed by a slash. */
  trailing = false
  /** Nothing on the way was on a shared file system or a magic link: the result may be kept. */
  steady = true
  /** All may search and list every directory on the way, and nothing on it depends on who asks. */
  everybody = true
  /** The negative dentry at which the walk ended, if it did. */
  absent: Dentry | null = null

  /** Starts at `dirfd` or, for an absolute name, at the root. 0 or −errno. */
  start(t: Task, dirfd: number, name: string, flags: number): number {
    if (name.length === 0 && (flags & LOOKUP_EMPTY) === 0) return -ENOENT
    const fs = t.fs
    this.t = t
    this.flags = flags
    this.links = 0
    const root = fs.root
    this.rootMount = root.mount
    this.rootDentry = root.dentry
    if (name.charCodeAt(0) === SLASH && (flags & LOOKUP_SCOPED) === 0) {
      this.mount = root.mount
      this.dentry = root.dentry
      return 0
    }
    if (dirfd === AT_FDCWD) {
      this.mount = fs.cwd.mount
      this.dentry = fs.cwd.dentry
    } else if (name.charCodeAt(0) === SLASH && (flags & LOOKUP_IN_ROOT) === 0) {
      return -EXDEV
    } else {
      const file = t.fds.get(dirfd)
      if (file === undefined) return -EBADF
      const path = file.path
      if (path === null) return name.length === 0 ? -EBADF : -ENOTDIR
      if (name.length !== 0 && !path.dentry.inode!.isDir) return -ENOTDIR
      this.mount = path.mount
      this.dentry = path.dentry
    }
    if ((flags & LOOKUP_SCOPED) !== 0) {
      if ((flags & LOOKUP_BENEATH) !== 0 && name.charCodeAt(0) === SLASH) return -EXDEV
      this.rootMount = this.mount
      this.rootDentry = this.dentry
    }
    return 0
  }

  startAt(t: Task, path: Path, flags: number): void {
    this.t = t
    this.flags = flags
    this.links = 0
    this.rootMount = t.fs.root.mount
    this.rootDentry = t.fs.root.dentry
    this.mount = path.mount
    this.dentry = path.dentry
  }

  /**
   * Walks `name` from the current place. `parent`: stops before the last component, which is left in `last`. 0 or
   * −errno; a last component that does not exist is −ENOENT (unless `parent`).
   */
  walk(name: string, parent: boolean): number {
    let pos = 0
    let prefetched = false
    this.last = ''
    this.lastType = LAST_ROOT
    this.trailing = false
    this.steady = true
    this.everybody = true
    this.absent = null
    if (name.charCodeAt(0) === SLASH) {
      const err = this.toRoot()
      if (err !== 0) return err
    }
    for (;;) {
      // Never behind the end: V8's optimised code takes that for a mistake of its own.
      while (pos < name.length && name.charCodeAt(pos) === SLASH) pos++
      if (pos >= name.length) return (this.flags & LOOKUP_DIRECTORY) !== 0 && !parent ? this.mustBeDir() : 0
      const dir = this.dentry.inode!
      if ((dir.mode & S_IFMT) !== S_IFDIR) return -ENOTDIR
      if (dir.sb.shared) this.steady = false
      if ((dir.mode & ANYBODY) !== ANYBODY) this.everybody = false
      const denied = this.mayLookup(dir)
      if (denied !== 0) return denied
      let end = name.indexOf('/', pos)
      if (end < 0) end = name.length
      let next = end
      while (next < name.length && name.charCodeAt(next) === SLASH) next++
      const isLast = next >= name.length
      const component = pos === 0 && end === name.length ? name : name.slice(pos, end)
      const type =
        component.charCodeAt(0) !== DOT
          ? LAST_NORM
          : component.length === 1
            ? LAST_DOT
            : component === '..'
              ? LAST_DOTDOT
              : LAST_NORM
      if (isLast) {
        this.last = component
        this.lastType = type
        this.trailing = end < name.length
        if (parent) return 0
      }
      if (type === LAST_NORM) {
        if (!prefetched && (!isLast || (this.flags & LOOKUP_OPEN) !== 0)) {
          if (this.dentry.child(component) === undefined) {
            this.prefetch(name, pos)
            prefetched = true
          }
        }
        const child = lookupChild(this.dentry, component)
        if (typeof child === 'number') return child
        const inode = child.inode
        if (inode === null) {
          this.absent = child
          return -ENOENT
        }
        if ((inode.mode & S_IFMT) === S_IFLNK && (!isLast || this.trailing || (this.flags & LOOKUP_FOLLOW) !== 0)) {
          const target = this.follow(child, isLast)
          if (typeof target === 'number') return target
          if (target !== null) {
            name = isLast ? target + name.slice(end) : `${target}/${name.slice(next)}`
            pos = 0
            prefetched = false
            if (target.charCodeAt(0) === SLASH) {
              const err = this.toRoot()
              if (err !== 0) return err
            }
            continue
          }
        } else {
          const err = this.step(child)
          if (err !== 0) return err
        }
      } else if (type === LAST_DOTDOT) {
        const err = this.dotdot()
        if (err !== 0) return err
      }
      if (isLast) return this.trailing || (this.flags & LOOKUP_DIRECTORY) !== 0 ? this.mustBeDir() : 0
      pos = next
    }
  }

  /** What the current directory shows of `name`, one component that nobody has looked up, or null. */
  glance(name: string): Glance | null {
    const dir = this.dentry.inode!
    if (!dir.isDir || this.dentry.child(name) !== undefined || this.mayLookup(dir) !== 0) return null
    const glance = dir.glance(name)
    if (glance !== null) glance.dev = dir.sb.dev
    return glance
  }

  private mustBeDir(): number {
    return this.dentry.inode!.isDir ? 0 : -ENOTDIR
  }

  private mayLookup(dir: Inode): number {
    const t = this.t
    // The commonest case first: the caller's class has x and the file system has no rules of its own.
    const err = genericPermission(t.creds, dir, MAY_EXEC)
    return err !== 0 ? (dir.grants(t) ? 0 : err) : dir.permission(t, MAY_EXEC)
  }

  /** An absolute name or link: back to the root of the walk. */
  private toRoot(): number {
    if ((this.flags & LOOKUP_BENEATH) !== 0) return -EXDEV
    if ((this.flags & LOOKUP_NO_XDEV) !== 0 && this.mount !== this.rootMount) return -EXDEV
    this.mount = this.rootMount
    this.dentry = this.rootDentry
    return 0
  }

  /** Into `dentry` of the current mount, and into what is mounted on it. */
  step(dentry: Dentry): number {
    this.dentry = dentry
    while (this.dentry.mounted !== 0) {
      const m = this.mount.children?.get(this.dentry)
      if (m === undefined) return 0
      if ((this.flags & LOOKUP_NO_XDEV) !== 0) return -EXDEV
      this.mount = m
      this.dentry = m.root
    }
    return 0
  }

  dotdot(): number {
    for (;;) {
      if (this.dentry === this.rootDentry && this.mount === this.rootMount) {
        return (this.flags & LOOKUP_BENEATH) !== 0 ? -EXDEV : 0
      }
      if (this.dentry !== this.mount.root) return this.step(this.dentry.parent)
      const up: Mount | null = this.mount.parent
      if (up === null) return 0
      if ((this.flags & LOOKUP_NO_XDEV) !== 0) return -EXDEV
      this.dentry = this.mount.mountpoint!
      this.mount = up
    }
  }

  /** Text to walk next, or null when a magic link has moved us already, or −errno. */
  follow(link: Dentry, isLast: boolean): string | number | null {
    const inode = link.inode!
    // Some calls do not follow it, and in a sticky directory not everybody may.
    if (isLast) this.everybody = false
    if (++this.links > MAX_LINKS) return -ELOOP
    if ((this.flags & LOOKUP_NO_SYMLINKS) !== 0 || (this.mount.flags & MS_NOSYMFOLLOW) !== 0) return -ELOOP
    const dir = this.dentry.inode!
    if (isLast && (dir.mode & (S_ISVTX | 0o002)) === (S_ISVTX | 0o002) && sysctl.protectedSymlinks !== 0) {
      if (inode.uid !== this.t.creds.fsuid && inode.uid !== dir.uid) return -EACCES
    }
    const jump = inode.jump(this.t)
    if (jump !== null) {
      if (typeof jump === 'number') return jump
      if ((this.flags & LOOKUP_NO_MAGICLINKS) !== 0) return -ELOOP
      if ((this.flags & LOOKUP_SCOPED) !== 0) return -EXDEV
      if ((this.flags & LOOKUP_NO_XDEV) !== 0 && jump.mount !== this.mount) return -EXDEV
      this.steady = false
      this.mount = jump.mount
      this.dentry = jump.dentry
      return null
    }
    touchAtime(this.mount, inode)
    const text = inode.readlink(this.t)
    if (text === '') return -ENOENT
    return text
  }

  /** Tells the file system which components come, so that it fetches them in one round trip. */
  private prefetch(name: string, from: number): void {
    const names: string[] = []
    let pos = from
    while (pos < name.length && names.length < MAX_PREFETCH) {
      let end = name.indexOf('/', pos)
      if (end < 0) end = name.length
      if (end > pos) {
        const component = name.slice(pos, end)
        if (component === '..' || component.length > NAME_MAX) break
        if (component !== '.') names.push(component)
      }
      pos = end + 1
    }
    const open = (this.flags & LOOKUP_OPEN) !== 0 && pos >= name.length
    if (names.length > 1 || open) this.dentry.sb.prefetch(this.dentry, names, open)
  }

  result(): Path {
    const { root, cwd } = this.t.fs
    if (this.dentry === cwd.dentry && this.mount === cwd.mount) return cwd
    if (this.dentry === root.dentry && this.mount === root.mount) return root
    return new Path(this.mount, this.dentry)
  }
}

/** One for all: a walk never starts another. What must survive the next walk is copied out. */
export const ND = new Nameidata()

/** The (positive or negative) dentry of `name` in directory `dir`, from the cache or the file system, or −errno. */
export function lookupChild(dir: Dentry, name: string): Dentry | number {
  const cached = dir.child(name)
  if (cached !== undefined) {
    if (!dir.sb.shared || cached.mounted !== 0 || dir.sb.revalidate(cached)) return cached
    cached.unhash()
  }
  if (name.length > NAME_MAX) return -ENAMETOOLONG
  const inode = dir.inode!
  if (inode.nlink === 0) return -ENOENT
  const found = inode.lookup(name)
  if (typeof found !== 'number') return dir.add(name, found)
  return found === -ENOENT ? dir.add(name, null) : found
}

/** user_path_at: the path of `name`, starting at `dirfd`. `flags`: LOOKUP_*. */
export function walkAt(t: Task, dirfd: number, name: string, flags: number): Path | number {
  dropUnusedDentries()
  let err = ND.start(t, dirfd, name, flags)
  if (err !== 0) return err
  // A single component is found as fast without the cache, and who walks a tree would only fill it.
  if ((flags & LOOKUP_SPECIAL) !== 0 || name.indexOf('/') < 0) {
    err = ND.walk(name, false)
    return err !== 0 ? err : ND.result()
  }
  const start = ND.dentry
  const startMount = ND.mount
  const known = cachedWalk(name, start, startMount, t, flags)
  if (known !== null) {
    ND.steady = true
    ND.everybody = known.everybody
    return known.path
  }
  err = ND.walk(name, false)
  if (err !== 0) {
    if (ND.absent !== null && ND.steady && ND.everybody && name.charCodeAt(0) === SLASH) tellAbsent(t, name, ND.absent)
    return err
  }
  const path = ND.result()
  if (ND.steady) rememberWalk(name, start, startMount, t, flags, path, ND.everybody)
  return path
}

/**
 * The attributes of a single component, if its directory shows them. Who walks a tree asks for each name once: an inode and
 * a dentry for each would be made in vain. null: {@link walkAt} finds it, or says why not.
 */
export function glanceAt(t: Task, dirfd: number, name: string): Glance | null {
  return name.indexOf('/') < 0 && ND.start(t, dirfd, name, 0) === 0 ? ND.glance(name) : null
}

/**
 * Whether the last {@link walkAt} leads to the same place again until `Dentry.generation` moves, whoever of the same rights
 * and root asks. Moves of a plain file do not count: what is found must be none, or looked after otherwise.
 */
export function walkIsSteady(name: string): boolean {
  return ND.steady && name.charCodeAt(0) === SLASH
}
/** … and whoever asks in any way: follows a link at the end, or not. Precondition: {@link walkIsSteady}. */
export function walkIsEverybodys(): boolean {
  return ND.everybody
}

/** As {@link walkAt}, from the working directory. */
export function walk(t: Task, name: string, flags: number): Path | number {
  return walkAt(t, AT_FDCWD, name, flags)
}

/** As {@link walkAt}, from a path. */
export function walkFrom(t: Task, from: Path, name: string, flags: number): Path | number {
  ND.startAt(t, from, flags)
  const err = ND.walk(name, false)
  return err !== 0 ? err : ND.result()
}

/** Where a name is to be made, removed or renamed: its directory and last component. */
export interface ParentPath {
  readonly dir: Path
  readonly name: string
  /** LAST_*: only LAST_NORM is a name that can be made. */
  readonly type: number
  readonly trailing: boolean
}

export function walkParentAt(t: Task, dirfd: number, name: string): ParentPath | number {
  let err = ND.start(t, dirfd, name, 0)
  if (err !== 0) return err
  err = ND.walk(name, true)
  if (err !== 0) return err
  return { dir: ND.result(), name: ND.last, type: ND.lastType, trailing: ND.trailing }
}
