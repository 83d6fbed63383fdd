/**
 * Makes guest file descriptions of the host descriptors that the CLI passed as stdin, stdout and stderr.
 */

import { close, dup3, fcntl, reopen as reopenHost } from '../../../native/host.ts'
import { O_ACCMODE, O_APPEND, O_NONBLOCK } from '../../abi/fcntl.ts'
import type { Kernel } from '../../kernel/kernel.ts'
import type { FileDescription } from '../../vfs/file-description.ts'
import { S_IFBLK, S_IFCHR, S_IFIFO, S_IFMT, S_IFREG } from '../../vfs/inode.ts'
import { HostInode } from './host-inode.ts'
import { HostRegularFile } from './host-regular.ts'
import { HostStream } from './host-stream.ts'

const F_GETFL = 3
const F_DUPFD_CLOEXEC = 1030
const O_NOCTTY = 0o400
const O_CLOEXEC = 0o2000000

/**
 * Takes over `fd`. The access mode and O_APPEND are the host description's; `flags` adds O_NONBLOCK for the guest
 * (−1 or 0: none).
 */
export function openHostStdio(kernel: Kernel, fd: number, flags = 0): FileDescription {
  const hostFlags = fcntl(fd, F_GETFL, 0)
  const reopen = (from: number, wanted: number): FileDescription | number => {
    const copy = fcntl(from, F_DUPFD_CLOEXEC, 3)
    return copy < 0 ? copy : openWith(kernel, copy, hostFlags, wanted & (O_ACCMODE | O_NONBLOCK), reopen)
  }
  const guestFlags = (hostFlags & (O_ACCMODE | O_APPEND)) | (flags > 0 ? flags & O_NONBLOCK : 0)
  return openWith(kernel, fd, hostFlags, guestFlags, reopen)
}

function openWith(
  kernel: Kernel,
  fd: number,
  hostFlags: number,
  guestFlags: number,
  reopen: (fd: number, flags: number) => FileDescription | number,
): FileDescription {
  const inode = new HostInode(fd, hostFlags, reopen)
  const type = inode.mode & S_IFMT
  if (type === S_IFREG || type === S_IFBLK) {
    return new HostRegularFile(fd, guestFlags | (hostFlags & O_APPEND), inode)
  }
  const own = (type === S_IFIFO || type === S_IFCHR) && makeOwnDescription(fd, hostFlags)
  return new HostStream(fd, guestFlags, inode, kernel.hostPoll, own)
}

/**
 * Replaces `fd` by a description of the same pipe or device that only we hold, with O_NONBLOCK. Works while /proc is
 * still there; for later ones (exec) the caller falls back to asking poll(2) first.
 */
function makeOwnDescription(fd: number, hostFlags: number): boolean {
  const flags = (hostFlags & (O_ACCMODE | O_APPEND)) | O_NONBLOCK | O_NOCTTY
  const own = reopenHost(fd, flags)
  if (own < 0) return false
  dup3(own, fd, O_CLOEXEC)
  close(own)
  return true
}
