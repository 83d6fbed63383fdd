/**
 * A mount of the gofer as a file system (Linux's nearest relatives: 9p and virtiofs).
 *
 * An exclusive mount is ours alone: names and attributes are cached for good. A shared one may change behind our back:
 * what is cached counts for FRESH_NS, then the gofer is asked again. What must stay true: one host file is one Inode
 * object as long as anybody has it open, also under several names, because locks and descriptors hang on it.
 */
import { MOUNT_READONLY, MOUNT_SHARED, NO_OPEN, WALK_COMPLETE, WALK_SYMLINK } from '../../../gofer/protocol.ts'
import { STATX_OFFSET } from '../../../native/host-files.ts'
import { EIO, ENOENT } from '../../abi/errno.ts'
import { monotonicNs } from '../../kernel/clock.ts'
import type { Dentry } from '../../vfs/dentry.ts'
import { type Glance, S_IFDIR, S_IFMT, type StatFs } from '../../vfs/inode.ts'
import { SuperBlock } from '../../vfs/super-block.ts'
import type { GoferClient, GoferMount } from './client.ts'
import { KnownDirectories } from './contents.ts'
import type { IdleFiles } from './idle-files.ts'
import { GoferInode } from './inode.ts'
import type { Listing } from './listing.ts'
import type { NamedInode } from './named-inode.ts'

/** How old the name of a directory may be, when it is just walked through. */
const FRESH_DIRECTORY_NS = 50_000_000
/** How old attributes of a shared mount may be. Covers the calls of one walk and the stat that follows it. */
const FRESH_NS = 1_000_000
const TWO32 = 0x1_0000_0000
/** Bits of a host inode number that are shown as they are. */
const INO_BITS = 40

const join = (base: string, name: string): string => (base === '' ? name : `${base}/${name}`)

export class GoferSuperBlock extends SuperBlock {
  readonly type = 'gofer'
  override readonly shared: boolean
  readonly root: GoferInode
  readonly client: GoferClient
  readonly mountId: number
  /** Files that are open on the host but not in the guest. */
  readonly idle: IdleFiles
  /** Counts renames of directories: a cached path from before is void. */
  pathGeneration = 0
  /** Directories, and other files with several names, by inode number. */
  private readonly known = new Map<number, WeakRef<GoferInode>>()
  private sweepAt = 4096
  readonly directories = new KnownDirectories()
  /** What {@link glance} shows. */
  private readonly glanced: Glance
  /** (device, high bits of the number) → what is shown above INO_BITS. */
  private readonly inoSpaces = new Map<string, number>()
  private lastMajor = -1
  private lastMinor = -1
  private lastHigh = -1
  private lastSpace = 0

  override get steady(): boolean {
    return !this.shared
  }

  constructor(client: GoferClient, mount: GoferMount, idle: IdleFiles) {
    super()
    this.client = client
    this.mountId = mount.id
    this.idle = idle
    this.shared = (mount.flags & MOUNT_SHARED) !== 0
    this.readonly = (mount.flags & MOUNT_READONLY) !== 0
    this.root = new GoferInode(this, null, '', mount.stat, 0)
    this.glanced = { view: mount.stat, at: 0, ino: 0, dev: 0 }
  }

  /** Whether what was learnt at `when` may still be used. */
  fresh(when: number): boolean {
    return !this.shared || monotonicNs() - when < FRESH_NS
  }
  /** For {@link fresh}. */
  now(): number {
    return this.shared ? monotonicNs() : 0
  }

  /**
   * One inode number for (device, inode number) of the host: mounts below ours have other devices, and overlayfs uses
   * all 64 bits, which a double cannot hold.
   */
  inoOf(view: DataView, at: number): number {
    const low = view.getUint32(at + STATX_OFFSET.ino, true)
    const high = view.getUint32(at + STATX_OFFSET.ino + 4, true)
    const major = view.getUint32(at + STATX_OFFSET.devMajor, true)
    const minor = view.getUint32(at + STATX_OFFSET.devMinor, true)
    const bits = high >>> (INO_BITS - 32)
    if (major !== this.lastMajor || minor !== this.lastMinor || bits !== this.lastHigh) {
      const key = `${major}:${minor}:${bits}`
      let index = this.inoSpaces.get(key)
      if (index === undefined) {
        index = this.inoSpaces.size
        this.inoSpaces.set(key, index)
      }
      this.lastSpace = index * 2 ** INO_BITS
      this.lastMajor = major
      this.lastMinor = minor
      this.lastHigh = bits
    }
    return this.lastSpace + (high & (2 ** (INO_BITS - 32) - 1)) * TWO32 + low
  }

  /** The inode for a stat record: the one that stands for the file already, or a new one. */
  inodeFor(parent: GoferInode, name: string, view: DataView, at: number): GoferInode {
    const unique =
      view.getUint32(at + STATX_OFFSET.nlink, true) > 1 ||
      (view.getUint16(at + STATX_OFFSET.mode, true) & S_IFMT) === S_IFDIR
    if (unique || this.shared) {
      const known = this.known.get(this.inoOf(view, at))?.deref()
      if (known?.isSame(view, at)) {
        known.addName(parent, name)
        known.fill(view, at)
        return known
      }
    }
    const inode = new GoferInode(this, parent, name, view, at)
    if (unique) {
      this.remember(inode)
      parent.known(name)
    }
    return inode
  }

  /** The inode for entry `i` of a listing of `parent`, or null where its stat record may be outdated. */
  inodeListed(parent: GoferInode, name: string, listing: Listing, i: number): GoferInode | null {
    const view = listing.statView(i)
    const at = listing.statOffset(i)
    const isDir = (view.getUint16(at + STATX_OFFSET.mode, true) & S_IFMT) === S_IFDIR
    // Another name of the file may have been used to change it.
    if (!isDir && view.getUint32(at + STATX_OFFSET.nlink, true) > 1) return null
    if (isDir && this.knows(view, at)) return null
    const inode = new GoferInode(this, parent, name, view, at)
    inode.checkedAt = listing.readAt
    if (inode.isSymlink) inode.linkTarget = listing.target(i) || null
    if (isDir) {
      this.remember(inode)
      const below = listing.takeOf(name)
      if (below !== null) inode.listed(below)
    }
    return inode
  }

  /** Entry `i` of a listing to look at, or null where {@link inodeListed} might say otherwise; directories are entered next. */
  glance(listing: Listing, i: number): Glance | null {
    const { glanced } = this
    const view = listing.statView(i)
    const at = listing.statOffset(i)
    if ((view.getUint16(at + STATX_OFFSET.mode, true) & S_IFMT) === S_IFDIR) return null
    if (view.getUint32(at + STATX_OFFSET.nlink, true) > 1) return null
    glanced.view = view
    glanced.at = at
    glanced.ino = this.inoOf(view, at)
    return glanced
  }

  /** Whether an inode may exist that stands for the directory of this record. */
  knows(view: DataView, at: number): boolean {
    return this.known.get(this.inoOf(view, at))?.deref() !== undefined
  }

  /** From now on the file is found by its number. */
  remember(inode: GoferInode): void {
    if (this.known.size >= this.sweepAt) {
      for (const [ino, ref] of this.known) if (ref.deref() === undefined) this.known.delete(ino)
      this.sweepAt = Math.max(4096, 2 * this.known.size)
    }
    this.known.set(inode.ino, new WeakRef(inode))
  }
  forget(inode: NamedInode): void {
    if (this.known.get(inode.ino)?.deref() === inode) this.known.delete(inode.ino)
  }

  override prefetch(dir: Dentry, names: readonly string[], open = false): void {
    const top = dir.inode as GoferInode
    const base = top.path()
    if (base === null) return
    if (top.lacks(names[0]!)) return
    const { client } = this
    const { r } = client
    const result = client.walk(this.mountId, base, names.join('/'), open ? 0 : NO_OPEN)
    if (result < 0) return
    const stop = r.i32()
    const count = r.u16()
    let parent = dir
    let last: GoferInode | null = null
    for (let i = 0; i < count && i < names.length; i++) {
      const at = client.takeStat()
      if (at < 0) return
      const name = names[i]!
      const known = parent.child(name)
      if (known === undefined) {
        last = this.inodeFor(parent.inode as GoferInode, name, r.view, at)
        parent = parent.add(name, last)
      } else {
        // In the cache by another way: what is there counts.
        last = known.inode as GoferInode | null
        if (last === null || known.mounted !== 0) return
        parent = known
      }
    }
    if (stop === WALK_SYMLINK && last !== null) last.linkTarget = r.text()
    else if (stop === -ENOENT && count < names.length && parent.child(names[count]!) === undefined) {
      parent.add(names[count]!, null)
    } else if (stop === WALK_COMPLETE && r.i32() === 0) {
      const fd = client.takeFd()
      if (fd >= 0 && last !== null) last.host.adoptReadFd(fd)
    }
  }

  /** The child of `parent` as the gofer has it, or −errno. */
  lookup(parent: GoferInode, name: string): GoferInode | number {
    const base = parent.path()
    if (base === null) return -ENOENT
    const { client } = this
    const result = client.walk(this.mountId, base, name, NO_OPEN)
    if (result < 0) return result
    const { r } = client
    const stop = r.i32()
    if (r.u16() !== 1) return stop < 0 ? stop : -EIO
    const at = client.takeStat()
    if (at < 0) return -EIO
    const inode = this.inodeFor(parent, name, r.view, at)
    if (stop === WALK_SYMLINK) inode.linkTarget = r.text()
    return inode
  }

  override revalidate(dentry: Dentry): boolean {
    const inode = dentry.inode as GoferInode | null
    if (inode !== null) {
      const age = monotonicNs() - inode.checkedAt
      if (age < (inode.isDir ? FRESH_DIRECTORY_NS : FRESH_NS)) return true
    }
    const parent = dentry.parent.inode as GoferInode
    const base = parent.path()
    if (base === null) return false
    const { client } = this
    const result = client.stat(this.mountId, join(base, dentry.name))
    if (inode === null || result < 0) return inode === null && result === -ENOENT
    const at = client.takeStat()
    if (at < 0 || !inode.isSame(client.r.view, at)) return false
    inode.fill(client.r.view, at)
    return true
  }

  statfs(out: StatFs): number {
    const { client } = this
    const result = client.statfs(this.mountId, '')
    if (result < 0) return result
    const raw = client.r.blob()
    if (raw.length < 88) return -EIO
    const v = new DataView(raw.buffer, raw.byteOffset)
    const f = (at: number) => v.getUint32(at, true) + v.getUint32(at + 4, true) * TWO32
    out.type = f(0)
    out.bsize = f(8)
    out.blocks = f(16)
    out.bfree = f(24)
    out.bavail = f(32)
    out.files = f(40)
    out.ffree = f(48)
    out.namelen = f(64)
    out.frsize = f(72)
    out.flags = 0
    return 0
  }

  override sync(): number {
    return this.readonly ? 0 : this.client.fsync(this.mountId, '')
  }

  override release(): void {
    this.idle.closeOf(this)
  }
}
