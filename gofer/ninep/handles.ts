/**
 * A file that fids refer to, held by an O_PATH descriptor: it stays the same file through renames, replacement and
 * removal of its name, by the guest or by the host. Shared by clones of a fid.
 */
import { STATX_OFFSET } from '../../native/host-files.ts'
import type { MessageWriter } from '../guest/codec.ts'
import { type Descriptors, deviceBits, type ExportedMount } from '../guest/descriptors.ts'
import { statField, statType } from '../guest/scratch.ts'
import { S_IFDIR, S_IFLNK, S_IFREG } from '../request.ts'
import type { ServedMount } from '../resolve.ts'
import { QT_DIR, QT_FILE, QT_SYMLINK } from './wire.ts'

export class Handle {
  readonly fd: number
  readonly root: ExportedMount
  /** S_IFMT bits. They never change. */
  readonly type: number
  /** Halves of qid.path: the inode number, with a number for the device in the upper 16 bits. */
  readonly pathLow: number
  readonly pathHigh: number
  readonly deviceBits: number
  private readonly descriptors: Descriptors
  private references = 1

  /** Takes over `fd`, of which {@link statFd} was the last call. The caller has asked `descriptors.refuse()`. */
  constructor(fd: number, root: ExportedMount, descriptors: Descriptors) {
    this.fd = fd
    this.root = root
    this.descriptors = descriptors
    descriptors.used++
    this.type = statType()
    this.deviceBits = deviceBits(root)
    this.pathLow = statField(STATX_OFFSET.ino)
    this.pathHigh = (statField(STATX_OFFSET.ino + 4) ^ this.deviceBits) >>> 0
  }

  get isDirectory(): boolean {
    return this.type === S_IFDIR
  }
  get isLink(): boolean {
    return this.type === S_IFLNK
  }
  get isRegular(): boolean {
    return this.type === S_IFREG
  }

  share(): this {
    this.references++
    return this
  }

  release(): void {
    if (--this.references === 0) this.descriptors.close(this.fd)
  }

  /** The qid, with the version as the last {@link statFd}, which was of this file, shows it. */
  putQid(w: MessageWriter): void {
    w.u8(this.isDirectory ? QT_DIR : this.isLink ? QT_SYMLINK : QT_FILE)
    w.u32(statVersion(this.root.mount)).u32(this.pathLow).u32(this.pathHigh)
  }
}

/**
 * v9fs takes inodes with different versions for different files. Where nobody but the guest changes them that would
 * only tear hard links apart, so there the version is 0; elsewhere it follows what others do to the file.
 */
function statVersion(mount: ServedMount): number {
  if (!mount.shared) return 0
  const mtime = Math.imul(statField(STATX_OFFSET.mtime), 31) ^ statField(STATX_OFFSET.mtime + 8)
  return (mtime ^ Math.imul(statField(STATX_OFFSET.size), 0x01000193)) >>> 0
}
