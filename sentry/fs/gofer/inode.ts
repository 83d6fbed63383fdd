/**
 * A file of a gofer mount: its attributes, what is made and removed in a directory, its data (its names: named-inode.ts).
 */
import { ATTR_ALL } from '../../../gofer/protocol.ts'
import { close, ftruncate, statxFd } from '../../../native/host.ts'
import { STATX_OFFSET } from '../../../native/host-files.ts'
import { EINVAL, EIO, EISDIR, ENFILE, ENODATA, ENOENT, ERANGE, ESTALE } from '../../abi/errno.ts'
import { O_ACCMODE, O_RDONLY, O_RDWR } from '../../abi/fcntl.ts'
import type { Credentials } from '../../kernel/credentials.ts'
import type { Task } from '../../kernel/task.ts'
import type { FileDescription } from '../../vfs/file-description.ts'
import {
  ATTR_CTIME,
  ATTR_GID,
  ATTR_MODE,
  ATTR_MTIME,
  ATTR_SIZE,
  ATTR_UID,
  type DirEmitter,
  type Glance,
  type Inode,
  makeDev,
  S_IFMT,
  type SetAttr,
} from '../../vfs/inode.ts'
import type { Path } from '../../vfs/path.ts'
import { newInodeGid, newInodeMode } from '../../vfs/permission.ts'
import { openSpecial } from '../../vfs/special.ts'
import { touchCtime } from '../../vfs/times.ts'
import { ASK, Contents } from './contents.ts'
import { GoferDirectory } from './directory.ts'
import { HostDescriptors } from './host-descriptors.ts'
import { FIRST } from './listing.ts'
import { NamedInode } from './named-inode.ts'
import { GoferRegularFile } from './regular-file.ts'
import type { GoferSuperBlock } from './super-block.ts'

const TWO32 = 0x1_0000_0000
const STATX_BASIC_AND_BTIME = 0xfff
const RENAME_EXCHANGE = 2
const u64 = (v: DataView, at: number): number => v.getUint32(at, true) + v.getUint32(at + 4, true) * TWO32
const i64 = (v: DataView, at: number): number => v.getUint32(at, true) + v.getInt32(at + 4, true) * TWO32
const STATX = Buffer.alloc(256)
const STATX_VIEW = new DataView(STATX.buffer, STATX.byteOffset, 256)

export class GoferInode extends NamedInode {
  /** Of a regular file; made when first needed. */
  private descriptors: HostDescriptors | null = null
  /** When the attributes were last learnt (shared mounts). */
  checkedAt = 0
  /** Text of a symbolic link, once known. */
  linkTarget: string | null = null

  constructor(sb: GoferSuperBlock, parent: GoferInode | null, name: string, view: DataView, at: number) {
    super(sb, parent, name)
    this.fill(view, at)
  }

  get host(): HostDescriptors {
    return (this.descriptors ??= new HostDescriptors(this))
  }

  // ---- attributes --------------------------------------------------------------------------------------------------

  fill(v: DataView, at: number): void {
    const o = STATX_OFFSET
    this.ino = this.sb.inoOf(v, at)
    this.mode = v.getUint16(at + o.mode, true)
    if (this.linkTarget !== null && this.sb.shared) this.forgetChangedTarget(v, at)
    this.uid = v.getUint32(at + o.uid, true)
    this.gid = v.getUint32(at + o.gid, true)
    this.nlink = v.getUint32(at + o.nlink, true)
    this.size = u64(v, at + o.size)
    this.blocks = u64(v, at + o.blocks)
    this.blksize = v.getUint32(at + o.blksize, true)
    this.rdev = makeDev(v.getUint32(at + o.rdevMajor, true), v.getUint32(at + o.rdevMinor, true))
    this.atimeSec = i64(v, at + o.atime)
    this.atimeNsec = v.getUint32(at + o.atime + 8, true)
    this.mtimeSec = i64(v, at + o.mtime)
    this.mtimeNsec = v.getUint32(at + o.mtime + 8, true)
    this.ctimeSec = i64(v, at + o.ctime)
    this.ctimeNsec = v.getUint32(at + o.ctime + 8, true)
    this.btimeSec = i64(v, at + o.btime)
    this.btimeNsec = v.getUint32(at + o.btime + 8, true)
    this.stale = false
    this.checkedAt = this.sb.now()
  }

  /** A link has one text for life, but its number may have come to another link. */
  private forgetChangedTarget(v: DataView, at: number): void {
    const nsec = v.getUint32(at + STATX_OFFSET.ctime + 8, true)
    if (v.getUint32(at + STATX_OFFSET.ctime, true) !== this.ctimeSec >>> 0 || nsec !== this.ctimeNsec) {
      this.linkTarget = null
    }
  }

  /**
   * Whether a stat record is this file's. A number that was freed and given out again passes too: without a descriptor,
   * which would have kept it, nothing but attributes is remembered, and those are about to be replaced. On an exclusive
   * mount a name leads where it led (overlayfs may change number and birth time at the first write).
   */
  isSame(v: DataView, at: number): boolean {
    if (this.nlink === 0 || (v.getUint16(at + STATX_OFFSET.mode, true) & S_IFMT) !== (this.mode & S_IFMT)) return false
    return !this.sb.shared || this.sb.inoOf(v, at) === this.ino
  }

  override revalidate(): number {
    const fd = this.descriptors === null ? -1 : this.descriptors.any
    if (fd >= 0) {
      // Written through descriptors and mappings that we don't see: the host knows.
      const error = statxFd(fd, STATX_BASIC_AND_BTIME, STATX)
      if (error === 0) this.fill(STATX_VIEW, 0)
      return error
    }
    if (!this.stale && this.sb.fresh(this.checkedAt)) return 0
    const path = this.path()
    if (path === null) return 0
    const { client } = this.sb
    const result = client.stat(this.sb.mountId, path)
    if (result === -EIO && !client.alive) return -EIO
    const at = result < 0 ? -1 : client.takeStat()
    if (at >= 0 && this.isSame(client.r.view, at)) this.fill(client.r.view, at)
    return 0
  }

  setattr(attr: SetAttr): number {
    const { sb } = this
    this.unlist()
    if ((attr.valid & (ATTR_SIZE | ATTR_MODE | ATTR_UID | ATTR_GID)) === ATTR_SIZE) {
      const writable = this.descriptors === null ? -1 : this.descriptors.writable
      if (writable >= 0 && (attr.valid & ~(ATTR_SIZE | ATTR_MTIME | ATTR_CTIME)) === 0) {
        const error = ftruncate(writable, attr.size)
        return error !== 0 ? error : this.revalidate()
      }
    }
    const path = this.path()
    const fd = this.descriptors !== null && (path === null || sb.shared) ? this.descriptors.any : -1
    if (path === null && fd < 0) return this.setDetached(attr)
    const result = sb.client.setattr(sb.mountId, path ?? '', attr, attr.valid & ATTR_ALL, fd)
    if (result < 0) return result
    const at = sb.client.takeStat()
    if (at < 0) return -EIO
    this.fill(sb.client.r.view, at)
    if ((attr.valid & ATTR_SIZE) !== 0 && this.descriptors !== null) this.descriptors.retireReadFd()
    return 0
  }

  /** Nothing names it any more and nothing holds it on the host: only what is shown changes. */
  private setDetached(attr: SetAttr): number {
    if ((attr.valid & ATTR_SIZE) !== 0) return -ESTALE
    if ((attr.valid & ATTR_MODE) !== 0) this.mode = (this.mode & S_IFMT) | (attr.mode & 0o7777)
    if ((attr.valid & ATTR_UID) !== 0) this.uid = attr.uid
    if ((attr.valid & ATTR_GID) !== 0) this.gid = attr.gid
    touchCtime(this)
    return 0
  }

  // ---- directories -------------------------------------------------------------------------------------------------

  override lookup(name: string): Inode | number {
    const { sb } = this
    const i = this.find(name)
    if (i === undefined && !sb.shared) return -ENOENT
    if (i !== undefined && i !== ASK) {
      const inode = sb.inodeListed(this, name, this.contents!.listing!, i)
      if (inode !== null) return inode
    }
    return sb.lookup(this, name)
  }

  override glance(name: string): Glance | null {
    const { sb } = this
    if (sb.shared) return null
    const i = this.find(name)
    return i === undefined || i === ASK ? null : sb.glance(this.contents!.listing!, i)
  }

  /** The object that a request has just made in this directory. */
  private made(name: string, result: number): GoferInode | number {
    if (result < 0) return result
    if (name !== '') this.nameChanged(name, true)
    const at = this.sb.client.takeStat()
    return at < 0 ? -EIO : this.sb.inodeFor(this, name, this.sb.client.r.view, at)
  }

  override create(name: string, mode: number, creds: Credentials): Inode | number {
    const path = this.pathOf(name)
    if (path === null) return -ENOENT
    const { client, mountId } = this.sb
    const bits = newInodeMode(this, mode, creds) & 0o7777
    const inode = this.made(name, client.create(mountId, path, bits, creds.fsuid, newInodeGid(this, creds)))
    if (typeof inode !== 'number') inode.host.adoptWriteFd(client.takeFd())
    return inode
  }

  override tmpfile(mode: number, creds: Credentials): Inode | number {
    const path = this.path()
    if (path === null) return -ENOENT
    const { client, mountId } = this.sb
    const bits = newInodeMode(this, mode, creds) & 0o7777
    const inode = this.made('', client.tmpfile(mountId, path, bits, creds.fsuid, newInodeGid(this, creds)))
    if (typeof inode !== 'number') {
      inode.host.adoptWriteFd(client.takeFd())
      inode.setName(null, '')
    }
    return inode
  }

  override mkdir(name: string, mode: number, creds: Credentials): Inode | number {
    const path = this.pathOf(name)
    if (path === null) return -ENOENT
    const { client, mountId } = this.sb
    const bits = newInodeMode(this, mode, creds) & 0o7777
    const dir = this.made(name, client.mkdir(mountId, path, bits, creds.fsuid, newInodeGid(this, creds)))
    if (typeof dir !== 'number' && !this.sb.shared) dir.keepContents(new Contents(null))
    return dir
  }

  override mknod(name: string, mode: number, rdev: number, creds: Credentials): Inode | number {
    const path = this.pathOf(name)
    if (path === null) return -ENOENT
    const { client, mountId } = this.sb
    const bits = newInodeMode(this, mode, creds)
    return this.made(name, client.mknod(mountId, path, bits, rdev, creds.fsuid, newInodeGid(this, creds)))
  }

  override symlink(name: string, target: string, creds: Credentials): Inode | number {
    const path = this.pathOf(name)
    if (path === null) return -ENOENT
    const { client, mountId } = this.sb
    const inode = this.made(name, client.symlink(mountId, path, target, creds.fsuid, newInodeGid(this, creds)))
    if (typeof inode !== 'number') inode.linkTarget = target
    return inode
  }

  override link(name: string, inode: Inode): number {
    const file = inode as GoferInode
    const path = this.pathOf(name)
    if (path === null) return -ENOENT
    const { client, mountId } = this.sb
    const old = file.path()
    const fd = old === null ? file.host.any : -1
    if (old === null && fd < 0) return -ENOENT
    const result = client.link(mountId, old ?? '', path, fd)
    if (result < 0) return result
    const at = client.takeStat()
    if (at < 0) return -EIO
    file.fill(client.r.view, at)
    file.addName(this, name)
    file.unlist()
    this.sb.remember(file)
    this.nameChanged(name, true)
    return 0
  }

  override unlink(name: string, inode: Inode): number {
    const path = this.pathOf(name)
    if (path === null) return -ENOENT
    const result = this.sb.client.unlink(this.sb.mountId, path)
    if (result < 0) return result
    this.nameChanged(name, false)
    const file = inode as GoferInode
    file.loseName(this, name)
    return 0
  }

  override rmdir(name: string, inode: Inode): number {
    const path = this.pathOf(name)
    if (path === null) return -ENOENT
    const result = this.sb.client.rmdir(this.sb.mountId, path)
    if (result < 0) return result
    this.nameChanged(name, false)
    const dir = inode as GoferInode
    dir.nlink = 0
    dir.dropContents()
    this.sb.forget(dir)
    dir.removeName(this, name)
    return 0
  }

  override rename(
    name: string,
    inode: Inode,
    newDir: Inode,
    newName: string,
    target: Inode | null,
    flags: number,
  ): number {
    const file = inode as GoferInode
    const dir = newDir as GoferInode
    const from = this.pathOf(name)
    const to = dir.pathOf(newName)
    if (from === null || to === null) return -ENOENT
    const { client, mountId } = this.sb
    const result = client.rename(mountId, from, to, flags)
    if (result < 0) return result
    this.nameChanged(name, (flags & RENAME_EXCHANGE) !== 0)
    dir.nameChanged(newName, true)
    const replaced = target as GoferInode | null
    if ((flags & RENAME_EXCHANGE) !== 0) {
      replaced?.replaceName(dir, newName, this, name)
      file.replaceName(this, name, dir, newName)
      return 0
    }
    if (replaced !== null) {
      if (replaced.isDir) {
        replaced.nlink = 0
        replaced.dropContents()
        this.sb.forget(replaced)
        replaced.removeName(dir, newName)
      } else replaced.loseName(dir, newName)
    }
    file.replaceName(this, name, dir, newName)
    return 0
  }

  /** For file systems above us (overlay); an open directory keeps a listing of its own. */
  override readdir(_t: Task, pos: number, out: DirEmitter): number {
    const listing = this.list(pos <= FIRST)
    return typeof listing === 'number' ? listing : listing.emit(pos, out)
  }

  // ---- symbolic links ----------------------------------------------------------------------------------------------

  override readlink(_t: Task): string | number {
    if (this.linkTarget !== null) return this.linkTarget
    const path = this.path()
    if (path === null) return -ENOENT
    const { client } = this.sb
    const result = client.readlink(this.sb.mountId, path)
    if (result < 0) return result
    this.linkTarget = client.r.text()
    return this.linkTarget
  }

  // ---- data --------------------------------------------------------------------------------------------------------

  open(t: Task, path: Path, flags: number): FileDescription | number {
    if (this.isDir) return new GoferDirectory(path, flags)
    if (!this.isReg) return openSpecial(t, this, path, flags)
    const fd = this.host.forData((flags & O_ACCMODE) !== O_RDONLY)
    if (fd < 0) return fd
    if (this.sb.shared) this.revalidate()
    this.host.addUser()
    return new GoferRegularFile(flags, path, this, fd)
  }

  /** A description is gone. */
  closed(): void {
    this.host.removeUser()
  }

  override hostFd(write: boolean): number {
    if (!this.isReg) return this.isDir ? -EISDIR : -EINVAL
    return write ? this.host.forData(true) : this.host.forReadOnlyMapping()
  }

  /** A new descriptor from the gofer, or −errno; −ESTALE where the name is gone or leads to another file. */
  openHost(write: boolean): number {
    const path = this.path()
    if (path === null) return -ESTALE
    const { client, idle, mountId } = this.sb
    let result = client.open(mountId, path, write ? O_RDWR : O_RDONLY)
    if (result < 0) return result
    let at = client.takeStat()
    let fd = client.takeFd()
    if (fd < 0 && at >= 0) {
      // It was sent, but found no room in our table.
      idle.closeAll()
      result = client.open(mountId, path, write ? O_RDWR : O_RDONLY)
      if (result < 0) return result
      at = client.takeStat()
      fd = client.takeFd()
    }
    if (at < 0) return -EIO
    if (fd < 0) return -ENFILE
    if (!this.isSame(client.r.view, at)) {
      close(fd)
      return -ESTALE
    }
    this.fill(client.r.view, at)
    return fd
  }

  closeHost(): void {
    if (this.host.close()) this.changed()
  }

  override evict(): void {
    this.sb.idle.remove(this)
    this.sb.forget(this)
    this.closeHost()
  }

  // ---- extended attributes -----------------------------------------------------------------------------------------

  override getxattr(name: string): Uint8Array | number {
    const path = this.path()
    if (path === null) return -ENODATA
    const result = this.sb.client.getxattr(this.sb.mountId, path, name)
    return result < 0 ? result : this.sb.client.r.blob()
  }

  override setxattr(name: string, value: Uint8Array, flags: number): number {
    const path = this.path()
    if (path === null) return -ESTALE
    // A value that a frame cannot hold is larger than any file system of ours would take.
    if (value.length > 60_000) return -ERANGE
    this.changed()
    return this.sb.client.setxattr(this.sb.mountId, path, name, value, flags)
  }

  override listxattr(): string | number {
    const path = this.path()
    if (path === null) return ''
    const result = this.sb.client.listxattr(this.sb.mountId, path)
    return result < 0 ? result : Buffer.from(this.sb.client.r.blob()).toString('latin1')
  }

  override removexattr(name: string): number {
    const path = this.path()
    if (path === null) return -ESTALE
    this.changed()
    return this.sb.client.removexattr(this.sb.mountId, path, name)
  }
}
