/**
 * The host descriptors of one regular file: what the gofer donated, one for reading and one for both.
 *
 * They are shared by all of the guest's opens, which bring positions of their own. `users` counts those; while there are
 * any, a descriptor that was handed out stays open. Without, the file is idle and may be closed (idle-files.ts).
 */
import { close, reopen } from '../../../native/host.ts'
import { EACCES, ESTALE } from '../../abi/errno.ts'
import { O_RDONLY } from '../../abi/fcntl.ts'
import type { GoferInode } from './inode.ts'

export class HostDescriptors {
  private readonly inode: GoferInode
  /** −1 while not open. */
  private readFd = -1
  private writeFd = -1
  private retired: number[] | null = null
  private users = 0

  constructor(inode: GoferInode) {
    this.inode = inode
  }

  /** One that attributes can be asked through, or −1. */
  get any(): number {
    return this.writeFd >= 0 ? this.writeFd : this.readFd
  }
  get writable(): number {
    return this.writeFd
  }

  addUser(): void {
    this.users++
    this.inode.sb.idle.remove(this.inode)
  }

  removeUser(): void {
    if (--this.users > 0) return
    this.closeRetired()
    if (this.writeFd >= 0) this.inode.unlist()
    if (this.inode.nlink === 0) this.close()
    else this.inode.sb.idle.add(this.inode)
  }

  /** To read (and write) through, or −errno. */
  forData(write: boolean): number {
    if (this.writeFd >= 0) return this.keep(this.writeFd)
    if (!write && this.readFd >= 0) return this.keep(this.readFd)
    return this.open(write)
  }

  /**
   * For mappings that are not to be written: read-only on the host too. Guest code that takes over its stub could turn a
   * shared mapping of anything else into a writable one.
   */
  forReadOnlyMapping(): number {
    if (this.readFd >= 0) return this.keep(this.readFd)
    const opened = this.open(false)
    if (opened !== -ESTALE || this.writeFd < 0) return opened
    // No name is left to ask the gofer for.
    const fd = reopen(this.writeFd, O_RDONLY)
    if (fd < 0) return -EACCES
    this.readFd = fd
    return this.keep(fd)
  }

  private open(write: boolean): number {
    const fd = this.inode.openHost(write)
    if (fd < 0) return fd
    if (write) {
      this.inode.unlist()
      this.retireReadFd()
      this.writeFd = fd
    } else this.readFd = fd
    return this.keep(fd)
  }

  /**
   * The first change of its data may have made the host copy the file (overlayfs). Mappings through the older descriptor
   * would show the original: those who have it keep it for reading, nobody gets it any more.
   */
  retireReadFd(): void {
    if (this.readFd < 0) return
    if (this.users === 0) close(this.readFd)
    else (this.retired ??= []).push(this.readFd)
    this.readFd = -1
  }

  private keep(fd: number): number {
    if (this.users === 0) this.inode.sb.idle.add(this.inode)
    return fd
  }

  /** Takes over a descriptor that a walk brought along. */
  adoptReadFd(fd: number): void {
    if (this.readFd >= 0) close(fd)
    else this.readFd = this.keep(fd)
  }

  /** Takes over the descriptor that came with a new file. */
  adoptWriteFd(fd: number): void {
    if (fd >= 0) this.writeFd = this.keep(fd)
  }

  /** Closes everything unless it is in use. Returns whether it might have been written through. */
  close(): boolean {
    if (this.users > 0) return false
    const written = this.writeFd >= 0
    if (this.readFd >= 0) close(this.readFd)
    if (this.writeFd >= 0) close(this.writeFd)
    this.readFd = -1
    this.writeFd = -1
    this.closeRetired()
    return written
  }

  private closeRetired(): void {
    if (this.retired === null) return
    for (const fd of this.retired) close(fd)
    this.retired = null
  }
}
