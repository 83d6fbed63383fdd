/**
 * The control server: the CLI's requests to a running sandbox. Runs inside the sentry's synchronous loop, so every socket
 * is non-blocking and nothing here waits; a `wait` request is answered from the kernel's exit callback.
 *
 * Must stay true: whatever a client sends or whenever it disappears, the sentry lives on and keeps no descriptor of it.
 */
import { getSystemErrorMessage } from 'node:util'
import { close } from '../../native/host.ts'
import {
  accept4,
  MSG_DONTWAIT,
  recvWithFds,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  sendWithFds,
} from '../../native/unix-socket.ts'
import { EAGAIN, EINTR, EINVAL, ESRCH } from '../abi/errno.ts'
import { checkRequest, RequestError } from './check.ts'
import { encodeFrame, FrameError, FrameReader } from './codec.ts'
import { type ContainerControl, type ControlPoller, EPOLLIN } from './control.ts'
import { MAX_FDS, type Reply, type ReplyValue, type Request } from './protocol.ts'

const SIGKILL = 9
const CHUNK = 65536
const NO_FDS: readonly number[] = []
const chunk = Buffer.alloc(CHUNK)

const DONE: Reply = { ok: true, value: null }

function success(value: ReplyValue): Reply {
  return { ok: true, value }
}

function fromResult(result: number): Reply {
  return result >= 0 ? DONE : { ok: false, errno: result, error: getSystemErrorMessage(result) }
}

class Connection {
  readonly fd: number
  readonly reader = new FrameReader()
  /** Descriptors that arrived and have not been claimed by an exec request. */
  fds: number[] = []
  /** Processes to kill when this client goes away: it stands for them on the host. */
  readonly bound = new Set<number>()
  /** The sandbox belongs to this client and ends with it. */
  readonly isOwner: boolean
  open = true

  constructor(fd: number, isOwner: boolean) {
    this.fd = fd
    this.isOwner = isOwner
  }

  dropFds(): void {
    for (const fd of this.fds) close(fd)
    this.fds = []
  }
}

/** `listener` and `owner` as in BootFds: −1 where there is none. */
export class ControlServer {
  private readonly listener: number
  private readonly control: ContainerControl
  private readonly poller: ControlPoller

  constructor(listener: number, owner: number, control: ContainerControl, poller: ControlPoller) {
    this.listener = listener
    this.control = control
    this.poller = poller
    if (listener >= 0) poller.watch(listener, EPOLLIN, { onHostEvents: () => this.accept() })
    if (owner >= 0) this.serve(new Connection(owner, true))
  }

  private accept(): void {
    for (;;) {
      const fd = accept4(this.listener, SOCK_NONBLOCK | SOCK_CLOEXEC)
      if (fd === -EINTR) continue
      if (fd < 0) return
      this.serve(new Connection(fd, false))
    }
  }

  private serve(c: Connection): void {
    this.poller.watch(c.fd, EPOLLIN, { onHostEvents: () => this.receive(c) })
  }

  private receive(c: Connection): void {
    const n = recvWithFds(c.fd, chunk, CHUNK, c.fds, MSG_DONTWAIT)
    if (n === -EAGAIN || n === -EINTR) return
    if (n <= 0 || c.fds.length > MAX_FDS) {
      this.hangUp(c)
      return
    }
    try {
      c.reader.push(chunk.subarray(0, n))
      for (let frame = c.reader.next(); frame !== undefined && c.open; frame = c.reader.next()) this.answer(c, frame)
    } catch (error) {
      if (!(error instanceof FrameError)) throw error
      this.hangUp(c)
    }
  }

  private answer(c: Connection, frame: unknown): void {
    let request: Request
    try {
      request = checkRequest(frame)
    } catch (error) {
      if (!(error instanceof RequestError)) throw error
      this.send(c, { ok: false, errno: -EINVAL, error: error.message })
      c.dropFds()
      return
    }
    const reply = this.handle(c, request)
    if (reply) this.send(c, reply)
    c.dropFds()
  }

  /** null: the reply comes later. */
  private handle(c: Connection, request: Request): Reply | null {
    const { control } = this
    switch (request.op) {
      case 'start': {
        const error = control.start()
        return error ? { ok: false, errno: error.errno, error: error.error } : DONE
      }
      case 'exec': {
        if (c.fds.length !== (request.process.terminal ? 1 : 3))
          return { ok: false, errno: -EINVAL, error: `exec came with ${c.fds.length} descriptors` }
        const fds = c.fds
        c.fds = []
        const result = control.exec(request.process, fds)
        if (typeof result !== 'number') return { ok: false, errno: result.errno, error: result.error }
        if (request.killOnDisconnect) {
          c.bound.add(result)
          control.onExit(result, () => c.bound.delete(result))
        }
        return success({ pid: result })
      }
      case 'signal':
        return fromResult(control.signal(request.pid, request.signal, request.target))
      case 'wait': {
        const result = control.onExit(request.pid, (status) => this.send(c, success({ status })))
        return result < 0 ? { ok: false, errno: -ESRCH, error: `no process ${request.pid} to wait for` } : null
      }
      case 'ps':
        return success({ processes: control.processes() })
      case 'state':
        return success({ state: control.state() })
      case 'pause':
        return fromResult(control.pause())
      case 'resume':
        return fromResult(control.resume())
      case 'stats':
        return success(control.stats())
      case 'resize':
        return fromResult(control.resize(request.pid, request.rows, request.cols))
      case 'update':
        return fromResult(control.update(request.limits))
      case 'attach': {
        const [fd, ...more] = c.fds
        if (fd === undefined || more.length || !control.attach) return fromResult(-EINVAL)
        c.fds = []
        return fromResult(control.attach(fd))
      }
      case 'shutdown':
        control.shutdown()
        return null
    }
  }

  /**
   * Replies are small and their number is bounded by what the client asked, so a client whose socket buffer is full has
   * stopped reading: it is cut off rather than buffered for.
   */
  private send(c: Connection, reply: Reply): void {
    if (!c.open) return
    const frame = encodeFrame(reply)
    let at = 0
    while (at < frame.length) {
      const rest = frame.subarray(at)
      const n = sendWithFds(c.fd, rest, rest.length, NO_FDS, MSG_DONTWAIT)
      if (n === -EINTR) continue
      if (n < 0) {
        this.hangUp(c)
        return
      }
      at += n
    }
  }

  private hangUp(c: Connection): void {
    if (!c.open) return
    c.open = false
    this.poller.unwatch(c.fd)
    close(c.fd)
    c.dropFds()
    for (const pid of c.bound) this.control.signal(pid, SIGKILL, 'process')
    if (c.isOwner) this.control.shutdown()
  }
}
