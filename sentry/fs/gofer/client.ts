/**
 * The sentry's end of the wire to the gofer (gofer/protocol.ts): one request at a time, sent and awaited in one call.
 *
 * A method returns the response's result (≥ 0 or −errno); its fields are then read from `r`, and a donated descriptor
 * taken with `takeFd`, before the next request. A gofer that is gone, or answers what it should not, is dead for good:
 * every later call returns −EIO and `onDeath` has been told why, once.
 */
import * as message from '../../../gofer/messages.ts'
import { FrameReader, FrameWriter, MAX_FRAME, PROTOCOL_VERSION, STAT_SIZE } from '../../../gofer/protocol.ts'
import { FrameSocket } from '../../../native/frame-socket.ts'
import { currentCpu } from '../../../native/host-files.ts'
import { EAGAIN, EINTR, EIO } from '../../abi/errno.ts'
import type { SetAttr } from '../../vfs/inode.ts'
import type { MessageCounts } from './message-counts.ts'

/** So many requests in a row from another CPU than the gofer's, and it is to follow. */
const SETTLED = 8

/** A mount that the gofer serves. */
export interface GoferMount {
  readonly id: number
  /** MOUNT_* of the protocol. */
  readonly flags: number
  /** A copy of its root's attributes. */
  readonly stat: DataView
}

export class GoferClient {
  readonly r: FrameReader
  private readonly socket: FrameSocket
  private readonly w: FrameWriter
  private nextId = 1
  private dead = false
  /** Told once why, as the end of 'the gofer is gone: '. */
  onDeath: ((reason: string) => void) | null = null
  /** Polls of the socket before sleeping: waking up costs more than most answers. Set by the kernel where CPUs are spare. */
  spins = 0
  /** Set by --debug-log. */
  counts: MessageCounts | null = null
  private type = 0
  private goferCpu = -1
  private elsewhere = 0

  constructor(socketFd: number) {
    this.socket = new FrameSocket(socketFd, MAX_FRAME)
    this.r = new FrameReader(this.socket.in.bytes)
    this.w = new FrameWriter(this.socket.out.bytes)
  }

  get alive(): boolean {
    return !this.dead
  }

  /** The donated descriptor of the last response, or −1; the caller owns it. */
  takeFd(): number {
    return this.socket.takeFd()
  }

  private die(reason: string): number {
    if (!this.dead) {
      this.dead = true
      this.onDeath?.(reason)
    }
    return -EIO
  }

  /** HostFdHandler for EPOLLRDHUP on the socket: a gofer that dies while nobody asks is noticed too. */
  onHostEvents(_events: number): void {
    if (this.socket.closed) this.die('its connection is closed')
  }

  private begin(type: number, mount: number): FrameWriter {
    const cpu = currentCpu()
    if (cpu === this.goferCpu) this.elsewhere = 0
    else if (++this.elsewhere >= SETTLED) this.place(cpu)
    return this.message(type, mount)
  }

  /** Has the gofer come to this CPU: it is woken there at a tenth of the cost. Where it may not, nothing is lost. */
  place(cpu: number): number {
    this.goferCpu = cpu
    this.elsewhere = 0
    this.message(message.PLACE, 0).u32(cpu)
    return this.finish(-1)
  }

  private message(type: number, mount: number): FrameWriter {
    this.type = type
    return this.w.request(this.nextId, type, mount)
  }

  /** Sends what {@link begin} started, with `fd` if ≥ 0, and waits for the answer. */
  private finish(fd: number): number {
    if (this.dead) return -EIO
    // A name or path too long for a frame cannot exist.
    if (!this.w.ok) return -EIO
    const { socket, r, counts } = this
    counts?.sent(this.type)
    const sent = socket.send(this.w.pos, fd)
    if (sent < 0) return this.die(`sending failed with error ${-sent}`)
    let n = -EAGAIN
    for (let i = 0; i < this.spins && n === -EAGAIN; i++) n = socket.receive(true)
    while (n === -EAGAIN || n === -EINTR) n = socket.receive(false)
    if (n <= 0) return this.die(n === 0 ? 'its connection is closed' : `receiving failed with error ${-n}`)
    counts?.answered()
    r.start(n)
    const id = r.u32()
    const result = r.i32()
    if (!r.ok || id !== this.nextId || result < -4095) return this.die('it sent a malformed response')
    this.nextId = (this.nextId + 1) >>> 0 || 1
    return result
  }

  /** Where the stat record lies that comes next in `r`; −1 (and the gofer counts as dead) if there is none. */
  takeStat(): number {
    const at = this.r.skip(STAT_SIZE)
    if (at < 0) this.die('it sent a short response')
    return at
  }

  hello(): GoferMount[] | number {
    this.begin(message.HELLO, 0).u32(PROTOCOL_VERSION)
    const result = this.finish(-1)
    if (result < 0) return result
    const { r } = this
    if (r.u32() !== PROTOCOL_VERSION) return this.die('it speaks another version')
    const mounts: GoferMount[] = []
    for (let left = r.u16(); left > 0; left--) {
      const id = r.u16()
      const flags = r.u32()
      const at = this.takeStat()
      if (at < 0) return -EIO
      mounts.push({
        id,
        flags,
        stat: new DataView(new Uint8Array(r.bytes.subarray(at, at + STAT_SIZE)).buffer),
      })
    }
    return mounts
  }

  walk(mount: number, base: string, names: string, openFlags: number): number {
    this.begin(message.WALK, mount).text(base).text(names).u32(openFlags)
    return this.finish(-1)
  }
  stat(mount: number, path: string): number {
    this.begin(message.STAT, mount).text(path)
    return this.finish(-1)
  }
  open(mount: number, path: string, flags: number): number {
    this.begin(message.OPEN, mount).text(path).u32(flags)
    return this.finish(-1)
  }
  create(mount: number, path: string, mode: number, uid: number, gid: number): number {
    this.begin(message.CREATE, mount).text(path).u32(mode).u32(uid).u32(gid)
    return this.finish(-1)
  }
  tmpfile(mount: number, path: string, mode: number, uid: number, gid: number): number {
    this.begin(message.TMPFILE, mount).text(path).u32(mode).u32(uid).u32(gid)
    return this.finish(-1)
  }
  readdir(mount: number, path: string, cursorLow: number, cursorHigh: number, below = 0, beside = ''): number {
    this.begin(message.READDIR, mount).text(path).u32(cursorLow).u32(cursorHigh).u16(below).text(beside)
    return this.finish(-1)
  }
  mkdir(mount: number, path: string, mode: number, uid: number, gid: number): number {
    this.begin(message.MKDIR, mount).text(path).u32(mode).u32(uid).u32(gid)
    return this.finish(-1)
  }
  mknod(mount: number, path: string, mode: number, rdev: number, uid: number, gid: number): number {
    this.begin(message.MKNOD, mount).text(path).u32(mode).u32(uid).u32(gid).u32(rdev)
    return this.finish(-1)
  }
  symlink(mount: number, path: string, target: string, uid: number, gid: number): number {
    this.begin(message.SYMLINK, mount).text(path).text(target).u32(uid).u32(gid)
    return this.finish(-1)
  }
  /** `fd` ≥ 0: a donated descriptor whose file gets the name, instead of `path`. */
  link(mount: number, path: string, newPath: string, fd: number): number {
    this.begin(message.LINK, mount).text(path).text(newPath)
    return this.finish(fd)
  }
  unlink(mount: number, path: string): number {
    this.begin(message.UNLINK, mount).text(path)
    return this.finish(-1)
  }
  rmdir(mount: number, path: string): number {
    this.begin(message.RMDIR, mount).text(path)
    return this.finish(-1)
  }
  rename(mount: number, path: string, newPath: string, flags: number): number {
    this.begin(message.RENAME, mount).text(path).text(newPath).u32(flags)
    return this.finish(-1)
  }
  /** `fd` ≥ 0: a donated descriptor of the file, instead of `path`. Only the protocol's ATTR_* bits of `valid` count. */
  setattr(mount: number, path: string, a: SetAttr, valid: number, fd: number): number {
    this.begin(message.SETATTR, mount).text(path).u32(valid).u32(a.mode).u32(a.uid).u32(a.gid).f64(a.size)
    this.w.f64(a.atimeSec).u32(a.atimeNsec).f64(a.mtimeSec).u32(a.mtimeNsec)
    return this.finish(fd)
  }
  readlink(mount: number, path: string): number {
    this.begin(message.READLINK, mount).text(path)
    return this.finish(-1)
  }
  statfs(mount: number, path: string): number {
    this.begin(message.STATFS, mount).text(path)
    return this.finish(-1)
  }
  fsync(mount: number, path: string): number {
    this.begin(message.FSYNC, mount).text(path)
    return this.finish(-1)
  }
  getxattr(mount: number, path: string, name: string): number {
    this.begin(message.GETXATTR, mount).text(path).text(name)
    return this.finish(-1)
  }
  setxattr(mount: number, path: string, name: string, value: Uint8Array, flags: number): number {
    this.begin(message.SETXATTR, mount).text(path).text(name).blob(value).u32(flags)
    return this.finish(-1)
  }
  listxattr(mount: number, path: string): number {
    this.begin(message.LISTXATTR, mount).text(path)
    return this.finish(-1)
  }
  removexattr(mount: number, path: string, name: string): number {
    this.begin(message.REMOVEXATTR, mount).text(path).text(name)
    return this.finish(-1)
  }
}
