/**
 * The serving loop: receive a frame, do what it says, answer. Synchronous and one at a time: the sentry waits for each
 * answer anyway, and a handler never has to think of another.
 *
 * What must stay true: each frame gets exactly one answer, whatever it holds, and nothing it opened stays open.
 */

import { FrameSocket } from '../native/frame-socket.ts'
import { write } from '../native/host.ts'
import { AT_EMPTY_PATH, HostMemory, schedSetaffinity } from '../native/host-files.ts'
import * as changes from './changes.ts'
import { readdir } from './listings.ts'
import * as lookups from './lookups.ts'
import * as message from './messages.ts'
import {
  FrameReader,
  FrameWriter,
  HEADER_SIZE,
  MAX_CPUS,
  MAX_FRAME,
  MOUNT_DIRECTORY,
  MOUNT_READONLY,
  MOUNT_SHARED,
  PROTOCOL_VERSION,
} from './protocol.ts'
import { EINVAL, EIO, EMSGSIZE, ENOSYS, EOVERFLOW, EPROTO, Request, SCRATCH_SIZE } from './request.ts'
import type { Resolver, ServedMount } from './resolve.ts'
import * as xattrs from './xattrs.ts'

type Handler = (q: Request) => number

const CPU_SET = new HostMemory(MAX_CPUS / 8)

/**
 * To wake a sleeper on another CPU costs tens of µs, one on the same CPU about two: while we work for the sentry it
 * sleeps, so that nothing is lost by sharing its CPU.
 */
function place(q: Request): number {
  const cpu = q.r.u32()
  if (!q.r.complete) return -EPROTO
  if (cpu >= MAX_CPUS) return -EINVAL
  CPU_SET.bytes.fill(0)
  CPU_SET.bytes[cpu >> 3] = 1 << (cpu & 7)
  return schedSetaffinity(0, MAX_CPUS / 8, CPU_SET.address)
}

const EINTR = 4

const GO_ON = 1

export class Server {
  private readonly socket: FrameSocket
  private readonly mounts: readonly ServedMount[]
  private readonly request: Request
  private readonly handlers: (Handler | undefined)[] = []

  constructor(fd: number, mounts: readonly ServedMount[], resolver: Resolver, mountIds: ReadonlySet<bigint>) {
    this.socket = new FrameSocket(fd, MAX_FRAME)
    this.mounts = mounts
    this.request = new Request(
      resolver,
      new FrameReader(this.socket.in.bytes),
      new FrameWriter(this.socket.out.bytes),
      this.socket.in,
      this.socket.out,
      new HostMemory(SCRATCH_SIZE),
      mounts[0]!,
      mountIds,
    )
    const h = this.handlers
    h[message.HELLO] = (q) => this.hello(q)
    h[message.PLACE] = place
    h[message.WALK] = lookups.walk
    h[message.STAT] = lookups.stat
    h[message.OPEN] = lookups.open
    h[message.READDIR] = readdir
    h[message.READLINK] = lookups.readlink
    h[message.STATFS] = lookups.statfs
    h[message.FSYNC] = lookups.fsync
    h[message.CREATE] = changes.create
    h[message.TMPFILE] = changes.tmpfile
    h[message.MKDIR] = changes.mkdir
    h[message.MKNOD] = changes.mknod
    h[message.SYMLINK] = changes.symlink
    h[message.LINK] = changes.link
    h[message.UNLINK] = changes.unlink
    h[message.RMDIR] = changes.rmdir
    h[message.RENAME] = changes.rename
    h[message.SETATTR] = changes.setattr
    h[message.GETXATTR] = xattrs.getxattr
    h[message.SETXATTR] = xattrs.setxattr
    h[message.LISTXATTR] = xattrs.listxattr
    h[message.REMOVEXATTR] = xattrs.removexattr
  }

  /** Serves until the sentry closes its end; 0 then, or the −errno that ended it. */
  serve(): number {
    let more = GO_ON
    while (more === GO_ON) more = this.turn()
    return more
  }

  /** One request: GO_ON, or what {@link serve} returns. On its own because V8 optimises what is called sooner than what loops. */
  private turn(): number {
    const { socket, request: q } = this
    const n = socket.receive(false)
    if (n === -EINTR) return GO_ON
    // An empty frame looks like the end.
    if (n === 0 && socket.closed) return 0
    if (n < 0 && n !== -EMSGSIZE) return n
    const result = this.handle(n)
    let length = q.w.pos
    if (result < 0) length = HEADER_SIZE
    q.w.setResult(result)
    const sent = socket.send(length, result < 0 ? -1 : q.donated)
    q.end()
    return sent < 0 ? sent : GO_ON
  }

  private handle(n: number): number {
    const q = this.request
    const { r, w } = q
    r.start(Math.max(0, n))
    const id = r.u32()
    const type = r.u16()
    const mountId = r.u16()
    w.response(id)
    q.begin(this.mounts[0]!, this.socket.takeFd())
    if (n < 0) return n
    if (!r.ok) return -EPROTO
    const handler = this.handlers[type]
    if (handler === undefined) return -ENOSYS
    const mount = this.mounts[mountId]
    if (mount === undefined) return -EINVAL
    q.mount = mount
    try {
      const result = handler(q)
      return result >= 0 && !w.ok ? -EOVERFLOW : result
    } catch (error) {
      // Our bug; one request is lost, not the container.
      const line = Buffer.from(`gofer: request ${type}: ${(error as Error).stack}\n`)
      write(2, line, line.length)
      return -EIO
    }
  }

  private hello(q: Request): number {
    const version = q.r.u32()
    if (!q.r.complete || version !== PROTOCOL_VERSION) return -EPROTO
    const { w } = q
    w.u32(PROTOCOL_VERSION)
    const countAt = w.pos
    w.u16(0)
    let count = 0
    for (const mount of this.mounts) {
      if (mount === undefined) continue
      const error = q.stat(mount.rootFd, q.emptyString, AT_EMPTY_PATH)
      if (error < 0) return error
      w.u16(mount.id)
      w.u32(
        (mount.readonly ? MOUNT_READONLY : 0) |
          (mount.isDirectory ? MOUNT_DIRECTORY : 0) |
          (mount.shared ? MOUNT_SHARED : 0),
      )
      q.putStat()
      count++
    }
    w.patchU16(countAt, count)
    return 0
  }
}
