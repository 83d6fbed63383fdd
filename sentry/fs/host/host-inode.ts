/**
 * Inode of a host descriptor that was passed in as stdio: attributes from the host's statx, nothing to walk to.
 *
 * Opening it again (/dev/stdout, /proc/self/fd/1) shares the host description: the sentry has no names of the host.
 * A host socket (what a parent that is Node passes as a "pipe") looks like a FIFO to the guest: it carries bytes both
 * ways, but no socket call reaches it, and programs that ask it for its type and name would give up on it.
 */

import { ftruncate, statxFd } from '../../../native/host.ts'
import { EACCES } from '../../abi/errno.ts'
import { O_ACCMODE, O_RDONLY, O_RDWR, O_WRONLY } from '../../abi/fcntl.ts'
import type { Task } from '../../kernel/task.ts'
import type { FileDescription } from '../../vfs/file-description.ts'
import { ATTR_SIZE, makeDev, S_IFIFO, S_IFMT, S_IFSOCK, type SetAttr } from '../../vfs/inode.ts'
import type { Path } from '../../vfs/path.ts'
import { AnonInode, AnonSuperBlock } from '../anon.ts'

const HOSTFS = new AnonSuperBlock('hostfs', 0x00c0ffee)
const STATX = Buffer.alloc(256)
const STATX_BASIC_STATS = 0x7ff

/** What an inode needs to open itself again: made by stdio.ts, which knows all kinds. */
export type Reopen = (fd: number, flags: number) => FileDescription | number

export class HostInode extends AnonInode {
  private readonly fd: number
  private readonly reopen: Reopen
  private readonly hostFlags: number
  /** The host object is a socket: what moves its bytes are socket calls. */
  isSocket = false

  constructor(fd: number, hostFlags: number, reopen: Reopen) {
    super(HOSTFS, 0, 0, 0, 0)
    this.fd = fd
    this.hostFlags = hostFlags
    this.reopen = reopen
    this.revalidate()
  }

  override revalidate(): number {
    const ret = statxFd(this.fd, STATX_BASIC_STATS, STATX)
    if (ret < 0) return ret
    this.blksize = STATX.readUInt32LE(4)
    this.nlink = STATX.readUInt32LE(16)
    this.uid = STATX.readUInt32LE(20)
    this.gid = STATX.readUInt32LE(24)
    this.mode = STATX.readUInt16LE(28)
    this.isSocket = (this.mode & S_IFMT) === S_IFSOCK
    if (this.isSocket) this.mode = S_IFIFO | 0o600
    this.ino = Number(STATX.readBigUInt64LE(32))
    this.size = Number(STATX.readBigUInt64LE(40))
    this.blocks = Number(STATX.readBigUInt64LE(48))
    this.atimeSec = Number(STATX.readBigInt64LE(64))
    this.atimeNsec = STATX.readUInt32LE(72)
    this.ctimeSec = Number(STATX.readBigInt64LE(96))
    this.ctimeNsec = STATX.readUInt32LE(104)
    this.mtimeSec = Number(STATX.readBigInt64LE(112))
    this.mtimeNsec = STATX.readUInt32LE(120)
    this.rdev = makeDev(STATX.readUInt32LE(128), STATX.readUInt32LE(132))
    return 0
  }

  override open(_t: Task, _path: Path, flags: number): FileDescription | number {
    const have = this.hostFlags & O_ACCMODE
    const want = flags & O_ACCMODE
    if (have !== O_RDWR && ((want !== O_WRONLY && have !== O_RDONLY) || (want !== O_RDONLY && have !== O_WRONLY))) {
      return -EACCES
    }
    return this.reopen(this.fd, flags)
  }

  /**
   * Only the size (`> /dev/stdout`): the guest may not change the rest of a host object. Pretending keeps programs that
   * chown their stdio (su, login) going.
   */
  override setattr(attr: SetAttr): number {
    return attr.valid & ATTR_SIZE ? ftruncate(this.fd, attr.size) : 0
  }
}
