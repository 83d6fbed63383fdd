/**
 * Ancillary data at SOL_SOCKET: descriptors and credentials that travel with messages (Linux: net/core/scm.c).
 *
 * A file in flight holds one reference; whoever drops a message without delivering it must call {@link dropFiles}.
 */
import { EBADF, EINVAL, EPERM, ESRCH, ETOOMANYREFS } from '../abi/errno.ts'
import {
  AF_UNIX,
  MSG_CMSG_CLOEXEC,
  MSG_CTRUNC,
  SCM_CREDENTIALS,
  SCM_MAX_FD,
  SCM_RIGHTS,
  SOL_SOCKET,
} from '../abi/socket.ts'
import { CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN, CAP_SYS_RESOURCE } from '../kernel/credentials.ts'
import { RLIMIT_NOFILE } from '../kernel/limits.ts'
import type { Task } from '../kernel/task.ts'
import type { FileDescription } from '../vfs/file-description.ts'
import type { Message } from './message.ts'
import { Socket } from './socket.ts'

const HEADER = 16
const UCRED_SIZE = 12
/** What a receiver with SO_PASSCRED sees when the sender gave no credentials (overflowuid). */
export const NOBODY = 65534

/** Credentials as messages carry them; pid 0 and {@link NOBODY} when unknown. */
export class SenderCreds {
  readonly pid: number
  readonly uid: number
  readonly gid: number
  constructor(pid: number, uid: number, gid: number) {
    this.pid = pid
    this.uid = uid
    this.gid = gid
  }
  equals(o: SenderCreds | null): boolean {
    return o !== null && o.pid === this.pid && o.uid === this.uid && o.gid === this.gid
  }
}

/** The parsed ancillary data of one send. */
export class Scm {
  files: FileDescription[] | null = null
  creds: SenderCreds | null = null
}

/** Files of one user that are on the way, by uid (user_struct.unix_inflight). */
const inFlight = new Map<number, number>()

/** AF_UNIX sockets in messages, with how often each is: what net/unix/garbage.ts looks at. */
export const socketsInFlight = new Map<Socket, number>()

function countSockets(files: readonly FileDescription[], by: number): void {
  for (const f of files) {
    if (!(f instanceof Socket) || f.family !== AF_UNIX) continue
    const n = (socketsInFlight.get(f) ?? 0) + by
    if (n > 0) socketsInFlight.set(f, n)
    else socketsInFlight.delete(f)
  }
}

/** Files in messages that were queued but not received, with the uid that is charged for them. */
export class FilesInFlight {
  readonly files: FileDescription[]
  private readonly uid: number
  constructor(files: FileDescription[], uid: number) {
    this.files = files
    this.uid = uid
    inFlight.set(uid, (inFlight.get(uid) ?? 0) + files.length)
    countSockets(files, 1)
  }
  /** The files arrived: the caller owns their references. */
  take(): FileDescription[] {
    const left = (inFlight.get(this.uid) ?? 0) - this.files.length
    if (left > 0) inFlight.set(this.uid, left)
    else inFlight.delete(this.uid)
    countSockets(this.files, -1)
    return this.files
  }
  drop(): void {
    dropFiles(this.take())
  }
}

export function dropFiles(files: readonly FileDescription[]): void {
  for (let i = files.length - 1; i >= 0; i--) files[i]!.unref()
}

/** Charges the sender for `files`; −ETOOMANYREFS (nothing kept) when that user has too many on the way. */
export function attachFiles(t: Task, files: FileDescription[]): FilesInFlight | number {
  const uid = t.creds.uid
  if (
    (inFlight.get(uid) ?? 0) > t.group.limits.soft[RLIMIT_NOFILE]! &&
    !t.creds.capable(CAP_SYS_RESOURCE) &&
    !t.creds.capable(CAP_SYS_ADMIN)
  ) {
    dropFiles(files)
    return -ETOOMANYREFS
  }
  return new FilesInFlight(files, uid)
}

/** The credentials of the sending process as the kernel knows them. */
export const ownCreds = (t: Task): SenderCreds => new SenderCreds(t.group.pid, t.creds.uid, t.creds.gid)

/** Parses the control data of a send. `out` owns references to the files. 0 or −errno (nothing kept). */
export function parseScm(t: Task, sock: Socket, msg: Message, out: Scm): number {
  const control = msg.control
  const end = msg.controlLen
  for (let at = 0; at + HEADER <= end; ) {
    const len = control.readUInt32LE(at) + control.readUInt32LE(at + 4) * 0x1_0000_0000
    let err = 0
    if (len < HEADER || len > end - at) err = -EINVAL
    else if (control.readInt32LE(at + 8) === SOL_SOCKET) {
      const type = control.readInt32LE(at + 12)
      if (type === SCM_RIGHTS)
        err = sock.family === AF_UNIX ? collectFiles(t, msg, at + HEADER, len - HEADER, out) : -EINVAL
      else if (type === SCM_CREDENTIALS)
        err = len === HEADER + UCRED_SIZE ? takeCreds(t, control, at + HEADER, out) : -EINVAL
      else err = -EINVAL
    }
    if (err < 0) {
      if (out.files !== null) dropFiles(out.files)
      out.files = null
      return err
    }
    at += (len + 7) & ~7
  }
  if (out.files !== null && out.files.length === 0) out.files = null
  return 0
}

function collectFiles(t: Task, msg: Message, at: number, len: number, out: Scm): number {
  const count = len >> 2
  if (count === 0) return 0
  if (count > SCM_MAX_FD) return -EINVAL
  if (out.files === null) out.files = []
  if (out.files.length + count > SCM_MAX_FD) return -EINVAL
  for (let i = 0; i < count; i++) {
    const fd = msg.control.readInt32LE(at + 4 * i)
    const file = fd < 0 ? undefined : t.fds.get(fd)
    if (file === undefined) return -EBADF
    out.files.push(file.ref())
  }
  return 0
}

/** A process may claim its own pid and any of its ids; capabilities let it claim others. */
function takeCreds(t: Task, control: Buffer, at: number, out: Scm): number {
  const pid = control.readInt32LE(at)
  const uid = control.readUInt32LE(at + 4)
  const gid = control.readUInt32LE(at + 8)
  const c = t.creds
  if (uid === 0xffffffff || gid === 0xffffffff) return -EINVAL
  if (pid !== t.group.pid && !c.capable(CAP_SYS_ADMIN)) return -EPERM
  if (uid !== c.uid && uid !== c.euid && uid !== c.suid && !c.capable(CAP_SETUID)) return -EPERM
  if (gid !== c.gid && gid !== c.egid && gid !== c.sgid && !c.capable(CAP_SETGID)) return -EPERM
  if (pid !== t.group.pid && t.kernel.ids.group(pid) === undefined) return -ESRCH
  out.creds = new SenderCreds(pid, uid, gid)
  return 0
}

const UCRED = Buffer.alloc(UCRED_SIZE)

export function putCreds(msg: Message, creds: SenderCreds | null): void {
  UCRED.writeInt32LE(creds === null ? 0 : creds.pid, 0)
  UCRED.writeUInt32LE(creds === null ? NOBODY : creds.uid, 4)
  UCRED.writeUInt32LE(creds === null ? NOBODY : creds.gid, 8)
  msg.putControl(SOL_SOCKET, SCM_CREDENTIALS, UCRED)
}

/** Installs as many files as there is room for; takes over all references (Linux: scm_detach_fds). */
export function putFiles(t: Task, msg: Message, files: readonly FileDescription[]): void {
  const max = Math.min(msg.controlRoom >> 2, files.length)
  const cloexec = (msg.flags & MSG_CMSG_CLOEXEC) !== 0
  const at = msg.controlUsed
  const limit = t.group.limits.soft[RLIMIT_NOFILE]!
  let n = 0
  while (n < max) {
    const fd = t.fds.install(files[n]!.ref(), cloexec, limit)
    if (fd < 0) break
    msg.control.writeInt32LE(fd, at + HEADER + 4 * n)
    n++
  }
  if (n > 0) {
    msg.controlHeader(at, HEADER + 4 * n, SOL_SOCKET, SCM_RIGHTS)
    const space = Math.min((HEADER + 4 * n + 7) & ~7, msg.controlLen - at)
    msg.control.fill(0, at + HEADER + 4 * n, at + space)
    msg.controlUsed = at + space
  }
  if (n < files.length) msg.outFlags |= MSG_CTRUNC
  dropFiles(files)
}
