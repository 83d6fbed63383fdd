/**
 * The container's console: a terminal whose hardware is a host terminal in raw mode, shared with nobody else while we
 * have it. The line discipline is ours; the host's only carries bytes.
 *
 * It appears as a slave of the container's devpts, as with other runtimes, so that ttyname(3) finds it.
 */

import { close, dup3, fcntl, ioctl, poll, read, reopen, write } from '../../../native/host.ts'
import { EAGAIN } from '../../abi/errno.ts'
import { O_NOCTTY, O_NONBLOCK, O_RDWR } from '../../abi/fcntl.ts'
import type { Credentials } from '../../kernel/credentials.ts'
import { EPOLLET, type HostFdHandler } from '../../kernel/host-poll.ts'
import type { Kernel } from '../../kernel/kernel.ts'
import type { Task } from '../../kernel/task.ts'
import { EPOLLHUP, EPOLLIN, EPOLLOUT, type FileDescription } from '../../vfs/file-description.ts'
import { makeDev } from '../../vfs/inode.ts'
import type { MountNamespace } from '../../vfs/mount.ts'
import { AnonInode, PIPEFS } from '../anon.ts'
import { ByteQueue } from './byte-queue.ts'
import { type DevPts, findDevPts, openTty, pathInDevPts } from './devpts.ts'
import { PTS_MAJOR } from './pty.ts'
import { Tty } from './tty.ts'

const TIOCGWINSZ = 0x5413
const F_GETFL = 3
const F_SETFL = 4
const O_CLOEXEC = 0o2000000
const OUTPUT_SIZE = 16384
const CHUNK = new Uint8Array(4096)
const POLLFD = new Int32Array(2)

export class Console extends Tty implements HostFdHandler {
  private readonly kernel: Kernel
  private readonly fd: number
  private readonly out = new ByteQueue(OUTPUT_SIZE)
  private readonly pts: DevPts | null
  private readonly index: number
  /** The backlog was full; the host may have more. */
  private inputLeft = false
  private dead = false
  private disposed = false
  private closed = false

  constructor(kernel: Kernel, fd: number, pts: DevPts | null, index: number) {
    super(index >= 0 ? makeDev(PTS_MAJOR, index) : makeDev(5, 1), index >= 0 ? `pts/${index}` : 'console')
    this.kernel = kernel
    this.fd = fd
    this.pts = pts
    this.index = index
    makeNonBlocking(fd)
    kernel.hostPoll.watch(fd, EPOLLIN | EPOLLOUT | EPOLLHUP | EPOLLET, this)
  }

  // ---- hardware ----------------------------------------------------------------------------------------------------
  writeRoom(): number {
    return this.stopped ? 0 : this.out.room
  }
  put(buf: Uint8Array, at: number, len: number): number {
    return this.stopped ? 0 : this.out.push(buf, at, len)
  }
  flushOutput(): void {
    while (this.out.length > 0 && !this.dead) {
      const run = this.out.front()
      const n = write(this.fd, run, run.length)
      if (n < 0) {
        if (n !== -EAGAIN) this.die()
        return
      }
      this.out.drop(n)
    }
  }
  discardOutput(): void {
    this.out.truncate(0)
  }
  mayOpen(): number {
    return 0
  }
  override get gone(): boolean {
    return this.dead
  }

  onHostEvents(events: number): void {
    if (events & EPOLLOUT && this.out.length > 0) {
      this.flushOutput()
      this.outputRoom()
      if (this.disposed && this.out.length === 0) this.dispose()
    }
    if (events & ~EPOLLOUT) this.readInput()
  }
  protected override wantInput(): void {
    if (this.inputLeft) this.readInput()
  }
  private readInput(): void {
    this.inputLeft = false
    while (!this.dead) {
      const room = Math.min(this.inputRoom, CHUNK.length)
      if (room === 0) {
        this.inputLeft = true
        return
      }
      const n = read(this.fd, CHUNK, room)
      if (n === -EAGAIN) return
      if (n <= 0) {
        this.die()
        return
      }
      this.receive(CHUNK, 0, n)
    }
  }

  /** The other side of the host's terminal is gone. */
  private die(): void {
    if (this.dead) return
    this.dead = true
    this.kernel.hostPoll.unwatch(this.fd)
    this.hangUp()
  }

  /**
   * Its last description is gone. While a session holds it, it may be opened again through /dev/tty; init's own stays for
   * /dev/console.
   */
  override lastClosed(): void {
    if (this.session === null && current !== this) this.dispose()
  }
  override disassociate(alive = false): void {
    super.disassociate(alive)
    if (this.users.size === 0) this.lastClosed()
  }

  private dispose(): void {
    if (this.closed) return
    this.disposed = true
    this.flushOutput()
    // Unwritten output keeps the host's terminal open until it is taken.
    if (this.out.length > 0 && !this.dead) return
    if (!this.dead) this.kernel.hostPoll.unwatch(this.fd)
    this.dead = true
    this.closed = true
    close(this.fd)
    if (this.pts !== null) this.pts.remove(this.index)
  }

  /** The sandbox ends: what programs wrote goes out, for at most `limitMs`. */
  drain(limitMs: number): void {
    this.stopped = false
    const until = this.kernel.now() + limitMs * 1e6
    this.flushOutput()
    while (this.out.length > 0 && !this.dead && this.kernel.now() < until) {
      POLLFD[0] = this.fd
      POLLFD[1] = EPOLLOUT
      poll(POLLFD, 1, 50)
      this.flushOutput()
    }
  }

  /** The host terminal has a new size: take it over. */
  refreshSize(): void {
    const size = Buffer.alloc(8)
    if (ioctl(this.fd, TIOCGWINSZ, size) < 0) return
    this.resize(size.readUInt16LE(0), size.readUInt16LE(2), size.readUInt16LE(4), size.readUInt16LE(6))
  }
}

/** What /dev/console opens: the terminal that init was started with. */
let current: Console | null = null
export const systemConsole = (): Console | null => current

/** A description of our own where /proc is still there, so that the user's shell does not inherit O_NONBLOCK. */
function makeNonBlocking(fd: number): void {
  const own = reopen(fd, O_RDWR | O_NONBLOCK | O_NOCTTY)
  if (own >= 0) {
    dup3(own, fd, O_CLOEXEC)
    close(own)
  } else {
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL, 0) | O_NONBLOCK)
  }
}

/**
 * Makes the terminal behind host descriptor `fd` (taken over; in raw mode already) a terminal of the container, owned
 * by `owner`. 0 × 0: the host terminal's own size. `system`: it is init's, and what /dev/console opens.
 */
export function createConsole(
  kernel: Kernel,
  fd: number,
  namespace: MountNamespace,
  owner: Credentials,
  rows = 0,
  cols = 0,
  system = true,
): Console {
  const pts = findDevPts(namespace)
  const index = pts === null ? -1 : pts.freeIndex()
  const tty = new Console(kernel, fd, pts, index)
  if (pts !== null && index >= 0) pts.enter(tty, index, owner)
  tty.refreshSize()
  if (rows > 0 && cols > 0) tty.resize(rows, cols, 0, 0)
  if (system) current ??= tty
  return tty
}

/**
 * Opens the console for a process about to start with it: `t` leads a session and gets it as controlling terminal. The
 * caller makes it descriptors 0, 1 and 2 (one reference each).
 */
export function openConsole(t: Task, tty: Console): FileDescription {
  const pts = findDevPts(t.fs.namespace)
  const path = pts === null || tty.node === null ? null : pathInDevPts(t.fs.namespace, pts, tty.node.ino - 3)
  const node = tty.node ?? new AnonInode(PIPEFS, 1, 0o020620, t.creds.uid, t.creds.gid)
  node.rdev = tty.deviceNumber
  const file = openTty(t, tty, node, path, O_RDWR)
  if (typeof file === 'number') throw new Error(`console: ${file}`)
  return file
}
