/**
 * fcntl(2) and the part of ioctl(2) that concerns every descriptor.
 */

import { fcntl as hostFcntl } from '../native/host.ts'
import { EBADF, EBUSY, EFAULT, EINVAL, ENOTTY, EPERM, ESRCH } from '../sentry/abi/errno.ts'
import * as F from '../sentry/abi/fcntl.ts'
import { directoryNotify } from '../sentry/fs/dnotify.ts'
import { getPipeSize, setPipeSize } from '../sentry/fs/pipe.ts'
import {
  F_ALL_SEALS,
  F_SEAL_FUTURE_WRITE,
  F_SEAL_SEAL,
  F_SEAL_WRITE,
  TmpfsFileDescription,
} from '../sentry/fs/tmpfs/file.ts'
import { RLIMIT_NOFILE } from '../sentry/kernel/limits.ts'
import { settleAllOpened } from '../sentry/kernel/opened-file.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import { F_OWNER_PGRP, F_OWNER_PID, type FileOwner, ownerOf } from '../sentry/vfs/fasync.ts'
import type { FileDescription } from '../sentry/vfs/file-description.ts'
import { S_IFMT, S_IFREG } from '../sentry/vfs/inode.ts'
import { getLease, setLease } from '../sentry/vfs/leases.ts'
import { ownerOrCapable } from '../sentry/vfs/permission.ts'
import { fcntlLock } from './lock.ts'

const SETTABLE = F.O_APPEND | F.O_NONBLOCK | F.O_DIRECT | F.O_NOATIME
/** Not kept in f_flags: descriptors have their own close-on-exec flag. */
const HIDDEN = F.O_CLOEXEC
const F_GETOWNER_UIDS = 17
const F_GET_RW_HINT = 1035
const F_SET_RW_HINT = 1036
const F_GET_FILE_RW_HINT = 1037
const F_SET_FILE_RW_HINT = 1038

function dupFrom(t: Task, file: FileDescription, min: number, cloexec: boolean): SysRet {
  const limit = t.group.limits.soft[RLIMIT_NOFILE]!
  if (min < 0 || min >= limit) return -EINVAL
  return t.fds.install(file.ref(), cloexec, limit, min)
}

function setFlags(t: Task, file: FileDescription, fd: number, arg: number): SysRet {
  if ((arg & F.O_NOATIME & ~file.flags) !== 0 && !ownerOrCapable(t.creds, file.inode)) return -EPERM
  if (((arg ^ file.flags) & F.O_ASYNC) !== 0) ownerOf(file).setAsync(t.kernel, fd, (arg & F.O_ASYNC) !== 0)
  return file.setFlags((file.flags & ~SETTABLE) | (arg & SETTABLE))
}

function setOwner(t: Task, file: FileDescription, type: number, id: number): SysRet {
  if (type < 0 || type > F_OWNER_PGRP) return -EINVAL
  if (id !== 0 && type !== F_OWNER_PGRP && t.kernel.ids.task(id) === undefined) return -ESRCH
  const owner = ownerOf(file)
  owner.type = type
  owner.id = id
  owner.creds = t.creds
  return 0
}

function addSeals(file: FileDescription, seals: number): SysRet {
  if (!(file instanceof TmpfsFileDescription) || file.inode.sb.type !== 'tmpfs') return -EINVAL
  if (!file.writable) return -EPERM
  if ((seals & ~F_ALL_SEALS) !== 0) return -EINVAL
  const inode = file.file
  if ((inode.seals & F_SEAL_SEAL) !== 0) return -EPERM
  const writeSeals = seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)
  if (writeSeals !== 0) {
    // The host knows whether a writable mapping exists.
    const err = hostFcntl(inode.hostFd(true), F.F_ADD_SEALS, writeSeals)
    if (err === -EBUSY) return err
  }
  inode.seals |= seals
  return 0
}

function getSeals(file: FileDescription): SysRet {
  return file instanceof TmpfsFileDescription && file.inode.sb.type === 'tmpfs' ? file.file.seals : -EINVAL
}

/** fcntl(2). */
export function sysFcntl(t: Task): SysRet {
  const fd = t.argI32(0)
  const file = t.fds.get(fd)
  if (file === undefined) return -EBADF
  const cmd = t.argI32(1)
  switch (cmd) {
    case F.F_GETFL:
      return file.flags & ~HIDDEN
    case F.F_GETFD:
      return t.fds.getCloexec(fd) ? F.FD_CLOEXEC : 0
    case F.F_SETFD:
      t.fds.setCloexec(fd, (t.argU32(2) & F.FD_CLOEXEC) !== 0)
      return 0
    case F.F_DUPFD:
      return dupFrom(t, file, t.argI32(2), false)
    case F.F_DUPFD_CLOEXEC:
      return dupFrom(t, file, t.argI32(2), true)
  }
  if ((file.flags & F.O_PATH) !== 0) return -EBADF
  switch (cmd) {
    case F.F_SETFL:
      return setFlags(t, file, fd, t.argI32(2))
    case F.F_GETLK:
    case F.F_SETLK:
    case F.F_SETLKW:
    case F.F_OFD_GETLK:
    case F.F_OFD_SETLK:
    case F.F_OFD_SETLKW:
      return fcntlLock(t, file, cmd, t.argPtr(2))
    case F.F_SETOWN: {
      const who = t.argI32(2)
      return setOwner(t, file, who < 0 ? F_OWNER_PGRP : F_OWNER_PID, Math.abs(who))
    }
    case F.F_GETOWN: {
      const owner = file.owner as FileOwner | null
      return owner === null ? 0 : owner.type === F_OWNER_PGRP ? -owner.id : owner.id
    }
    case F.F_SETOWN_EX: {
      const type = t.readU32(t.argPtr(2))
      const id = t.readU32(t.argPtr(2) + 4)
      return type < 0 || id < 0 ? -EFAULT : setOwner(t, file, type, id)
    }
    case F.F_GETOWN_EX: {
      const owner = ownerOf(file)
      const err = t.writeU32(t.argPtr(2), owner.type)
      return err < 0 ? err : t.writeU32(t.argPtr(2) + 4, owner.id)
    }
    case F_GETOWNER_UIDS: {
      const err = t.writeU32(t.argPtr(2), t.creds.uid)
      return err < 0 ? err : t.writeU32(t.argPtr(2) + 4, t.creds.euid)
    }
    case F.F_SETSIG: {
      const signal = t.argI32(2)
      if (signal < 0 || signal > 64) return -EINVAL
      ownerOf(file).signal = signal
      return 0
    }
    case F.F_GETSIG:
      return file.owner === null ? 0 : (file.owner as FileOwner).signal
    case F.F_NOTIFY:
      settleAllOpened(t.kernel)
      return directoryNotify(t, file, fd, t.argU32(2))
    case F.F_GETLEASE:
      return getLease(file)
    case F.F_SETLEASE:
      settleAllOpened(t.kernel)
      return setLease(t, file, fd, t.argI32(2))
    case F.F_SETPIPE_SZ:
      return setPipeSize(t, file, t.argU32(2))
    case F.F_GETPIPE_SZ:
      return getPipeSize(file)
    case F.F_ADD_SEALS:
      return addSeals(file, t.argI32(2))
    case F.F_GET_SEALS:
      return getSeals(file)
    case F_GET_RW_HINT:
    case F_GET_FILE_RW_HINT:
      return t.writeU64(t.argPtr(2), 0)
    case F_SET_RW_HINT:
    case F_SET_FILE_RW_HINT:
      return 0
    default:
      return -EINVAL
  }
}

const FIOCLEX = 0x5451
const FIONCLEX = 0x5450
const FIONBIO = 0x5421
const FIOASYNC = 0x5452
const FIOQSIZE = 0x5460
const FIONREAD = 0x541b
const FIGETBSZ = 2
const FIBMAP = 1
const FIFREEZE = 0xc0045877

/** ioctl(2): what every file has, then the object's own. */
export function sysIoctl(t: Task): SysRet {
  const fd = t.argI32(0)
  const file = t.fds.get(fd)
  if (file === undefined || (file.flags & F.O_PATH) !== 0) return -EBADF
  const cmd = t.argU32(1)
  const arg = t.argPtr(2)
  switch (cmd) {
    case FIOCLEX:
      t.fds.setCloexec(fd, true)
      return 0
    case FIONCLEX:
      t.fds.setCloexec(fd, false)
      return 0
    case FIONBIO:
      return toggle(t, file, arg, F.O_NONBLOCK)
    case FIOASYNC: {
      const on = t.readU32(arg)
      if (on < 0) return on
      if (((file.flags & F.O_ASYNC) !== 0) === (on !== 0)) return 0
      if (file.waitQueue === null) return -ENOTTY
      ownerOf(file).setAsync(t.kernel, fd, on !== 0)
      return 0
    }
    case FIGETBSZ:
      return t.writeU32(arg, file.inode.blksize)
    case FIOQSIZE:
      return file.inode.isReg || file.inode.isDir ? t.writeU64(arg, file.inode.size) : -ENOTTY
    case FIBMAP:
      return file.inode.isReg ? -EPERM : -ENOTTY
    case FIFREEZE:
      return -EPERM
    case FIONREAD:
      if ((file.inode.mode & S_IFMT) === S_IFREG && file.seekable) {
        return t.writeU32(arg, Math.max(0, file.inode.size - file.pos))
      }
      break
  }
  return file.ioctl(t, cmd, arg)
}

function toggle(t: Task, file: FileDescription, arg: number, flag: number): SysRet {
  const on = t.readU32(arg)
  if (on < 0) return on
  return file.setFlags(on !== 0 ? file.flags | flag : file.flags & ~flag)
}
