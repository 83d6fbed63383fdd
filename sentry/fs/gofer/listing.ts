/**
 * A whole directory of a gofer mount as it was when it was read: its entries as getdents64(2) shows them, and the stat
 * records that came with the names, from which inodes are made when somebody looks them up. Listings of directories below
 * may have come along.
 */
import { MAX_BESIDE, MAX_NAME, STAT_SIZE } from '../../../gofer/protocol.ts'
import { STATX_OFFSET } from '../../../native/host-files.ts'
import { EIO, ENOENT } from '../../abi/errno.ts'
import { monotonicNs } from '../../kernel/clock.ts'
import {
  DIRENT64_NAME,
  type DirRecords,
  emitRecords,
  isRecordOf,
  recordName,
  recordSize,
} from '../../vfs/dir-records.ts'
import { type DirEmitter, S_IFDIR, S_IFMT } from '../../vfs/inode.ts'
import type { NamedInode } from './named-inode.ts'
import type { GoferSuperBlock } from './super-block.ts'

/** What one directory may make the sentry keep in memory: names of 255 bytes at worst. */
const MAX_ENTRIES = 4_000_000
/** Entries whose stat records are kept. */
const MAX_RECORDS = 8192
/** An entry of READDIR without the bytes of its texts. */
const ENTRY_SIZE = STAT_SIZE + 6
/** Entries behind the last one found that are looked at before all names are put into a map. */
const NEAR = 16
const NOTHING = Buffer.alloc(0)
const NO_VIEW = new DataView(NOTHING.buffer, 0, 0)
/** Bytes of a name, for how much memory to begin with. */
const USUAL_NAME = 20
const TWO32 = 0x1_0000_0000
/** Positions 0 and 1 are '.' and '..'. */
export const FIRST = 2

export class Listing implements DirRecords {
  bytes = NOTHING
  view = NO_VIEW
  readonly starts: number[] = [0]
  /** Parts of the gofer's frames, and where in them the stat records lie: number << 16 | offset. */
  private readonly parts: Buffer[] = []
  private readonly views: DataView[] = []
  private readonly statAt: number[] = []
  /** When it was read, as GoferSuperBlock.now has it. */
  readAt: number
  /** The same, always monotonic time. */
  readonly since = monotonicNs()
  /** Of directories of which no inode existed, so that nothing below has changed until one is made. */
  private below: Map<string, Listing> | null = null
  /** Entries of those below, all together. */
  private belowCount = 0
  /** Entry numbers by name, once somebody asks in another order. */
  private names: Map<string, number> | null = null
  /** The entry last found. */
  private asked = 0

  private constructor(readAt: number) {
    this.readAt = readAt
  }

  /** For KnownDirectories: entries in memory. */
  get weight(): number {
    return this.count + this.belowCount
  }
  /** The listing of the directory called `name` that came along, or null; from now on it is the directory's own. */
  takeOf(name: string): Listing | null {
    const listing = this.below?.get(name) ?? null
    if (listing !== null) this.below!.delete(name)
    return listing
  }

  get count(): number {
    return this.starts.length - 1
  }
  /** Whether every entry has its stat record. */
  get complete(): boolean {
    return this.statAt.length === this.count
  }

  /**
   * `above`: the listing that directory `name` was found in. Somebody is walking the tree: whole directories below and
   * beside it come along.
   */
  static read(dir: NamedInode, above: Listing | null, name: string): Listing | number {
    const { sb } = dir
    const { r } = sb.client
    const path = dir.path()
    if (path === null) return -ENOENT
    const listing = new Listing(sb.now())
    const beside = above === null ? '' : above.namesBehind(sb, name)
    let low = 0
    let high = 0
    for (;;) {
      const result = sb.client.readdir(sb.mountId, path, low, high, above === null ? 0 : 1, beside)
      if (result < 0) return result
      const nextLow = r.u32()
      const nextHigh = r.u32()
      const end = r.u16()
      const count = r.u16()
      const directories = r.u16()
      if (!listing.take(sb, count)) return -EIO
      if (end !== 0) return listing.takeOthers(sb, directories, name, above) ? listing : -EIO
      if (count === 0 || listing.count > MAX_ENTRIES || (nextLow === low && nextHigh === high)) return -EIO
      low = nextLow
      high = nextHigh
    }
  }

  /**
   * Takes the listings that came along in the rest of the frame. Whether they were well-formed. Their paths begin with
   * `name`, this directory, or in `above`.
   */
  private takeOthers(sb: GoferSuperBlock, directories: number, name: string, above: Listing | null): boolean {
    const { r } = sb.client
    for (let i = 0; i < directories; i++) {
      const names = r.text().split('/')
      const listing = new Listing(this.readAt)
      if (!listing.take(sb, r.u16())) return false
      const last = names.length - 1
      const mine = last > 0 && names[0] === name
      const top = mine ? this : above
      // Each comes behind its parent, without whose listing its own is of no use.
      let parent = top
      for (let n = mine ? 1 : 0; n < last && parent !== null; n++) parent = parent.below?.get(names[n]!) ?? null
      if (top === null || !parent?.isUnknown(sb, names[last]!)) continue
      parent.below ??= new Map()
      parent.below.set(names[last]!, listing)
      top.belowCount += listing.count
    }
    return r.complete
  }

  /** Whether entry `name` is a directory that no inode stands for yet. */
  private isUnknown(sb: GoferSuperBlock, name: string): boolean {
    const i = this.find(name)
    return i !== undefined && this.isUnknownAt(sb, i)
  }
  private isUnknownAt(sb: GoferSuperBlock, i: number): boolean {
    if (i >= this.statAt.length) return false
    const view = this.statView(i)
    const at = this.statOffset(i)
    return (view.getUint16(at + STATX_OFFSET.mode, true) & S_IFMT) === S_IFDIR && !sb.knows(view, at)
  }

  /** The number of the entry called `name`. Who has listed a directory mostly asks in the same order. */
  find(name: string): number | undefined {
    const near = Math.min(this.count, this.asked + NEAR)
    for (let i = this.asked; i < near; i++) if (isRecordOf(this, i, name)) return (this.asked = i)
    this.names ??= this.index()
    const i = this.names.get(name)
    if (i !== undefined) this.asked = i
    return i
  }

  /** Directories behind `name`, which no inode stands for and whose listings are not here: as READDIR takes them. */
  private namesBehind(sb: GoferSuperBlock, name: string): string {
    const from = this.find(name) ?? this.count
    const names: string[] = []
    for (let i = from + 1; i < this.count && names.length < MAX_BESIDE; i++) {
      if (!this.isUnknownAt(sb, i)) continue
      const next = recordName(this, i)
      if (this.below?.has(next) !== true) names.push(next)
    }
    return names.join('/')
  }

  /** Takes the `count` entries that come next in the frame. Whether they were well-formed. */
  private take(sb: GoferSuperBlock, count: number): boolean {
    const { r } = sb.client
    const from = r.bytes
    const fromView = r.view
    const start = r.pos
    if (r.end - start < count * ENTRY_SIZE) return false
    let at = this.starts[this.count]!
    this.grow(at + count * recordSize(USUAL_NAME))
    const kept = this.parts.length
    const keep = count > 0 && this.count < MAX_RECORDS
    let stat = start
    for (let i = 0; i < count; i++) {
      if (r.end - stat < ENTRY_SIZE) return false
      const name = stat + STAT_SIZE + 2
      const length = fromView.getUint16(name - 2, true)
      // The text of a link, which is looked at when somebody asks.
      const target = name + length + 1
      if (length === 0 || length > MAX_NAME || r.end - target < 3) return false
      const end = target + 2 + fromView.getUint16(target, true) + 1
      if (end > r.end || from[target - 1] !== 0 || from[end - 1] !== 0) return false
      const size = recordSize(length)
      if (at + size > this.bytes.length) this.grow(at + size)
      const { bytes, view } = this
      for (let k = 0; k < length; k++) {
        const c = from[name + k]!
        if (c === 0) return false
        bytes[at + DIRENT64_NAME + k] = c
      }
      const ino = sb.inoOf(fromView, stat)
      view.setUint32(at, ino >>> 0, true)
      view.setUint32(at + 4, Math.floor(ino / TWO32), true)
      view.setUint32(at + 8, this.starts.length + FIRST, true)
      view.setUint16(at + 16, size, true)
      bytes[at + 18] = fromView.getUint16(stat + STATX_OFFSET.mode, true) >> 12
      at += size
      this.starts.push(at)
      if (keep) this.statAt.push((kept << 16) | (stat - start))
      stat = end
    }
    r.skip(stat - start)
    if (keep) {
      // Its part alone: what is left of a frame must not keep all of it in memory.
      const part = Buffer.from(from.subarray(start, stat))
      this.parts.push(part)
      this.views.push(new DataView(part.buffer, part.byteOffset, part.length))
    }
    return true
  }

  private grow(size: number): void {
    if (size <= this.bytes.length) return
    const bytes = Buffer.alloc(Math.max(size, 2 * this.bytes.length))
    bytes.set(this.bytes)
    this.bytes = bytes
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  }

  emit(pos: number, out: DirEmitter): number {
    emitRecords(out, this, Math.max(0, pos - FIRST))
    return 0
  }

  private index(): Map<string, number> {
    const index = new Map<string, number>()
    for (let i = 0; i < this.count; i++) index.set(recordName(this, i), i)
    return index
  }

  /** Entry `i`'s stat record lies in `statView(i)` from `statOffset(i)` on. */
  statView(i: number): DataView {
    return this.views[this.statAt[i]! >>> 16]!
  }
  statOffset(i: number): number {
    return this.statAt[i]! & 0xffff
  }
  /** Text of a symbolic link; '' for anything else, and for what is no text. */
  target(i: number): string {
    const view = this.statView(i)
    const name = this.statOffset(i) + STAT_SIZE
    const at = name + 2 + view.getUint16(name, true) + 1
    const text = this.parts[this.statAt[i]! >>> 16]!.latin1Slice(at + 2, at + 2 + view.getUint16(at, true))
    return text.includes('\0') ? '' : text
  }
}
