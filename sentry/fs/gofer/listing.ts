/**
 * A whole directory of a gofer mount as it was when it was read: its entries as getdents64(2) shows them, and the stat
 * records that came with the names, from which inodes are made when somebody looks them up.
 */
import { MAX_NAME, STAT_SIZE } from '../../../gofer/protocol.ts'
import { STATX_OFFSET } from '../../../native/host-files.ts'
import { EIO, ENOENT } from '../../abi/errno.ts'
import { DIRENT64_NAME, type DirRecords, emitRecords, recordName, recordSize } from '../../vfs/dir-records.ts'
import type { DirEmitter } from '../../vfs/inode.ts'
import type { GoferInode } from './inode.ts'

/** What one directory may make the sentry keep in memory: names of 255 bytes at worst. */
const MAX_ENTRIES = 4_000_000
/** Entries whose stat records are kept. */
const MAX_RECORDS = 8192
/** An entry of READDIR without the bytes of its texts. */
const ENTRY_SIZE = STAT_SIZE + 6
const TWO32 = 0x1_0000_0000
/** Positions 0 and 1 are '.' and '..'. */
export const FIRST = 2

export class Listing implements DirRecords {
  bytes = Buffer.alloc(0)
  view = new DataView(this.bytes.buffer, 0, 0)
  readonly starts: number[] = [0]
  /** Frames of the gofer, and where in them the stat records lie: frame number << 16 | offset. */
  private readonly frames: Buffer[] = []
  private readonly views: DataView[] = []
  private readonly statAt: number[] = []
  /** When it was read, as GoferSuperBlock.now has it. */
  readAt = 0

  get count(): number {
    return this.starts.length - 1
  }
  /** Whether every entry has its stat record. */
  get complete(): boolean {
    return this.statAt.length === this.count
  }

  static read(dir: GoferInode): Listing | number {
    const { sb } = dir
    const { r } = sb.client
    const path = dir.path()
    if (path === null) return -ENOENT
    const listing = new Listing()
    listing.readAt = sb.now()
    let low = 0
    let high = 0
    for (;;) {
      const result = sb.client.readdir(sb.mountId, path, low, high)
      if (result < 0) return result
      const nextLow = r.u32()
      const nextHigh = r.u32()
      const end = r.u16()
      const count = r.u16()
      if (!listing.take(dir, count)) return -EIO
      if (end !== 0) return listing
      if (count === 0 || listing.count > MAX_ENTRIES || (nextLow === low && nextHigh === high)) return -EIO
      low = nextLow
      high = nextHigh
    }
  }

  /** Takes the `count` entries of the frame that has just come. Whether it was well-formed. */
  private take(dir: GoferInode, count: number): boolean {
    const { sb } = dir
    const { client } = sb
    const { r } = client
    const texts = r.end - r.pos - count * ENTRY_SIZE
    if (texts < 0) return false
    let at = this.starts[this.count]!
    this.grow(at + texts + count * recordSize(7))
    const { bytes, view } = this
    const kept = this.frames.length
    const keep = this.count < MAX_RECORDS
    if (keep) {
      const frame = Buffer.from(r.bytes.subarray(0, r.end))
      this.frames.push(frame)
      this.views.push(new DataView(frame.buffer, frame.byteOffset, frame.length))
    }
    for (let i = 0; i < count; i++) {
      const stat = client.takeStat()
      const name = r.textAt()
      const length = r.textLength
      r.textAt()
      if (stat < 0 || !r.ok || length === 0 || length > MAX_NAME) return false
      const ino = sb.inoOf(r.view, stat)
      const next = this.count + FIRST + 1
      const size = recordSize(length)
      view.setUint32(at, ino >>> 0, true)
      view.setUint32(at + 4, Math.floor(ino / TWO32), true)
      view.setUint32(at + 8, next, true)
      view.setUint16(at + 16, size, true)
      bytes[at + 18] = r.view.getUint16(stat + STATX_OFFSET.mode, true) >> 12
      r.bytes.copy(bytes, at + DIRENT64_NAME, name, name + length)
      at += size
      this.starts.push(at)
      if (keep) this.statAt.push((kept << 16) | stat)
    }
    return true
  }

  private grow(size: number): void {
    if (size <= this.bytes.length) return
    const bytes = Buffer.alloc(this.bytes.length === 0 ? size : Math.max(size, 2 * this.bytes.length))
    bytes.set(this.bytes)
    this.bytes = bytes
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  }

  emit(pos: number, out: DirEmitter): number {
    emitRecords(out, this, Math.max(0, pos - FIRST))
    return 0
  }

  /** Entry numbers by name. */
  index(): Map<string, number> {
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
  /** Text of a symbolic link; '' for anything else. */
  target(i: number): string {
    const view = this.statView(i)
    const name = this.statOffset(i) + STAT_SIZE
    const at = name + 2 + view.getUint16(name, true) + 1
    return this.frames[this.statAt[i]! >>> 16]!.latin1Slice(at + 2, at + 2 + view.getUint16(at, true))
  }
}
