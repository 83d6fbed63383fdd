/**
 * /proc/PID/fd and fdinfo (Linux: fs/proc/fd.c). The entries follow the descriptor table: a link is as alive as its
 * descriptor is open.
 */
import { ENOENT } from '../../abi/errno.ts'
import { O_CLOEXEC } from '../../abi/fcntl.ts'
import { settleOpenedOf } from '../../kernel/opened-file.ts'
import type { Task } from '../../kernel/task.ts'
import { describePath } from '../../vfs/d-path.ts'
import type { FdTable } from '../../vfs/fd-table.ts'
import type { FileDescription } from '../../vfs/file-description.ts'
import { type DirEmitter, type Inode, S_IFLNK } from '../../vfs/inode.ts'
import type { Path } from '../../vfs/path.ts'
import { anonPath } from '../anon.ts'
import { DT_LNK, DT_REG } from '../pseudo/directory.ts'
import type { Subject } from './subject.ts'
import type { ProcSuperBlock } from './super-block.ts'
import { TaskDirectory, TaskFile, TaskLink } from './task-inode.ts'

/** Numbers of a table's links: below them no other inode of procfs comes to lie. */
const FD_INOS = 2 ** 21

const fileOf = (s: Subject, fd: number): FileDescription | undefined =>
  s.running && fd < FD_INOS ? tableOf(s).get(fd) : undefined

function tableOf(s: Subject): FdTable {
  settleOpenedOf(s.task)
  return s.task.fds
}

/** A decimal descriptor without leading zeros, or −1. */
function parseFd(name: string): number {
  return /^(0|[1-9]\d{0,9})$/.test(name) ? Number(name) : -1
}

const FD_LINK_SIZE = 64

class FdLink extends TaskLink {
  private readonly fd: number

  constructor(sb: ProcSuperBlock, subject: Subject, ino: number, fd: number) {
    super(sb, subject, 0o700, ino)
    this.fd = fd
    this.size = FD_LINK_SIZE
    this.revalidate()
  }
  override get alive(): boolean {
    return fileOf(this.subject, this.fd) !== undefined
  }
  /** The mode bits tell how the file is open. */
  override revalidate(): number {
    const file = fileOf(this.subject, this.fd)
    if (file !== undefined) this.mode = S_IFLNK | (file.readable ? 0o500 : 0) | (file.writable ? 0o300 : 0)
    return super.revalidate()
  }
  protected target(_t: Task): Path | number {
    const file = fileOf(this.subject, this.fd)
    return file === undefined ? -ENOENT : (file.path ?? anonPath(file))
  }
  protected show(t: Task): string | number {
    const file = fileOf(this.subject, this.fd)
    if (file === undefined) return -ENOENT
    return file.path === null ? file.describe() : describePath(file.path, t.fs.root)
  }
}

function fdInfo(s: Subject, fd: number): string | number {
  const file = fileOf(s, fd)
  if (file === undefined) return -ENOENT
  const flags = file.flags | (s.task.fds.getCloexec(fd) ? O_CLOEXEC : 0)
  const mount = (file.path ?? anonPath(file)).mount
  return `pos:\t${file.pos}\nflags:\t0${flags.toString(8)}\nmnt_id:\t${mount.id}\nino:\t${file.inode.ino}\n${file.fdinfo()}`
}

/** What fd and fdinfo have in common. */
abstract class DescriptorDirectory extends TaskDirectory {
  protected readonly firstIno: number
  protected abstract readonly entryType: number
  protected abstract make(fd: number): Inode

  constructor(sb: ProcSuperBlock, subject: Subject, permissions: number, ino: number) {
    super(sb, subject, permissions, ino)
    this.firstIno = sb.nextIno(FD_INOS)
  }

  lookup(name: string): Inode | number {
    const fd = parseFd(name)
    return fd < 0 || fileOf(this.subject, fd) === undefined ? -ENOENT : this.make(fd)
  }

  readdir(_t: Task, pos: number, out: DirEmitter): number {
    const s = this.subject
    if (!s.running) return 0
    const fds = tableOf(s)
    const n = fds.size
    for (let fd = Math.max(0, pos - 2); fd < n; fd++) {
      if (fds.get(fd) === undefined) continue
      if (!out.emit(String(fd), this.firstIno + fd, this.entryType, fd + 3)) return 0
    }
    return 0
  }
}

export class FdDirectory extends DescriptorDirectory {
  protected readonly entryType = DT_LNK

  constructor(sb: ProcSuperBlock, subject: Subject, ino: number) {
    super(sb, subject, 0o500, ino)
  }
  protected make(fd: number): Inode {
    return new FdLink(this.sb as ProcSuperBlock, this.subject, this.firstIno + fd, fd)
  }
  /** Since Linux 6.2 the size is the number of open descriptors. */
  override revalidate(): number {
    let n = 0
    if (this.subject.running) {
      const fds = tableOf(this.subject)
      for (let fd = fds.size - 1; fd >= 0; fd--) if (fds.get(fd) !== undefined) n++
    }
    this.size = n
    return super.revalidate()
  }
  /** A process always reaches its own descriptors, also when it is not dumpable and root owns the directory. */
  override grants(t: Task): boolean {
    return t.group === this.subject.group
  }
}

export class FdinfoDirectory extends DescriptorDirectory {
  protected readonly entryType = DT_REG

  constructor(sb: ProcSuperBlock, subject: Subject, ino: number) {
    super(sb, subject, 0o555, ino)
  }
  protected make(fd: number): Inode {
    return new FdinfoFile(this.sb as ProcSuperBlock, this.subject, this.firstIno + fd, fd)
  }
  override permission(t: Task, _mask: number): number {
    return this.subject.check(t)
  }
}

class FdinfoFile extends TaskFile {
  private readonly fd: number

  constructor(sb: ProcSuperBlock, subject: Subject, ino: number, fd: number) {
    super(sb, subject, 0o444, ino, { render: (s) => fdInfo(s, fd) })
    this.fd = fd
  }
  override get alive(): boolean {
    return fileOf(this.subject, this.fd) !== undefined
  }
}
