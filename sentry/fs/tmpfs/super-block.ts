/**
 * A tmpfs instance (Linux: mm/shmem.c): limits, inode numbers, options.
 */
import { totalmem } from 'node:os'
import { EINVAL } from '../../abi/errno.ts'
import { parseOptions, parseSize, registerFileSystem } from '../../vfs/file-system.ts'
import { S_IFDIR, type StatFs } from '../../vfs/inode.ts'
import { SuperBlock } from '../../vfs/super-block.ts'
import { TmpfsDirectory } from './directory.ts'

const TMPFS_MAGIC = 0x01021994
const PAGE = 4096

export interface TmpfsOptions {
  /** Bytes; 0 = no limit. */
  size: number
  /** 0 = no limit. */
  inodes: number
  mode: number
  uid: number
  gid: number
}

export class TmpfsSuperBlock extends SuperBlock {
  override readonly type: string = 'tmpfs'
  readonly root: TmpfsDirectory
  /** st_size of an empty directory and what an entry adds (BOGO_DIRENT_SIZE); st_blocks. Getters: the root asks early. */
  get directorySize(): number {
    return 40
  }
  get entrySize(): number {
    return 20
  }
  get directoryBlocks(): number {
    return 0
  }
  /** In pages; 0 = no limit. */
  readonly maxPages: number
  private readonly maxInodes: number
  usedPages = 0
  private usedInodes = 0
  private lastIno = 0

  override get steady(): boolean {
    return true
  }

  constructor(options: TmpfsOptions) {
    super()
    this.source = 'tmpfs'
    this.maxPages = Math.ceil(options.size / PAGE)
    this.maxInodes = options.inodes
    this.options = describe(options)
    this.root = this.makeRoot(options)
  }

  protected makeRoot(o: TmpfsOptions): TmpfsDirectory {
    return new TmpfsDirectory(this, this.newIno(), S_IFDIR | o.mode, o.uid, o.gid)
  }

  newIno(): number {
    return ++this.lastIno
  }

  /** Whether one more inode is allowed; counts it. */
  takeInode(): boolean {
    if (this.maxInodes !== 0 && this.usedInodes >= this.maxInodes) return false
    this.usedInodes++
    return true
  }
  inodeGone(): void {
    if (this.usedInodes > 0) this.usedInodes--
  }

  statfs(out: StatFs): number {
    const free = Math.max(0, this.maxPages - this.usedPages)
    out.type = TMPFS_MAGIC
    out.bsize = PAGE
    out.frsize = PAGE
    out.blocks = this.maxPages
    out.bfree = free
    out.bavail = free
    out.files = this.maxInodes
    out.ffree = Math.max(0, this.maxInodes - this.usedInodes)
    out.namelen = 255
    return 0
  }

  override release(): void {
    this.root.dispose()
  }
}

function defaults(memory: number): TmpfsOptions {
  const half = Math.floor(memory / 2)
  return { size: half, inodes: Math.floor(half / PAGE), mode: 0o1777, uid: 0, gid: 0 }
}

/** `size=64k,mode=755,…` on a machine with `memory` bytes, or −EINVAL for what tmpfs does not know. */
export function parseTmpfsOptions(text: string, memory = totalmem()): TmpfsOptions | number {
  const o = defaults(memory)
  for (const [key, value] of parseOptions(text)) {
    const n = Number(value)
    switch (key) {
      case 'size':
        o.size = parseSize(value, memory)
        if (o.size < 0) return -EINVAL
        break
      case 'nr_blocks':
        o.size = parseSize(value, 0) * PAGE
        if (o.size < 0) return -EINVAL
        break
      case 'nr_inodes':
        o.inodes = parseSize(value, 0)
        if (o.inodes < 0) return -EINVAL
        break
      case 'mode':
        if (!/^[0-7]+$/.test(value)) return -EINVAL
        o.mode = Number.parseInt(value, 8) & 0o7777
        break
      case 'uid':
      case 'gid':
        if (!/^\d+$/.test(value)) return -EINVAL
        o[key] = n
        break
      case 'huge':
      case 'mpol':
      case 'inode32':
      case 'inode64':
      case 'noswap':
        break
      default:
        return -EINVAL
    }
  }
  return o
}

function describe(o: TmpfsOptions): string {
  const d = defaults(totalmem())
  const words: string[] = []
  if (o.size !== d.size && o.size !== 0) words.push(`size=${Math.ceil(o.size / PAGE) * 4}k`)
  if (o.inodes !== d.inodes && o.inodes !== 0) words.push(`nr_inodes=${o.inodes}`)
  if (o.mode !== 0o1777) words.push(`mode=${o.mode.toString(8).padStart(3, '0')}`)
  if (o.uid !== 0) words.push(`uid=${o.uid}`)
  if (o.gid !== 0) words.push(`gid=${o.gid}`)
  words.push('inode64')
  return words.join(',')
}

for (const name of ['tmpfs', 'ramfs']) {
  registerFileSystem({
    name,
    nodev: true,
    mount(request) {
      const { memoryLimit } = request.kernel
      const memory = memoryLimit > 0 ? Math.min(memoryLimit, totalmem()) : totalmem()
      const options = parseTmpfsOptions(request.options, memory)
      if (typeof options === 'number') return options
      const sb = new TmpfsSuperBlock(options)
      sb.source = request.source
      return sb
    },
  })
}
