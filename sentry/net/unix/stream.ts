/**
 * AF_UNIX SOCK_STREAM: bytes in packets of up to 36 KiB, with descriptors and credentials attached to the packet they
 * were sent with (Linux: unix_stream_sendmsg, unix_stream_read_generic).
 *
 * A read never joins packets of different writers when credentials are wanted, and stops after one that carried
 * descriptors.
 */
import { EAGAIN, EFAULT, EINVAL, EISCONN, ENOTCONN, EOPNOTSUPP, EPIPE } from '../../abi/errno.ts'
import {
  MSG_CTRUNC,
  MSG_OOB,
  MSG_PEEK,
  MSG_WAITALL,
  RCV_SHUTDOWN,
  SEND_SHUTDOWN,
  SO_OOBINLINE,
  SOCK_STREAM,
  TCP_ESTABLISHED,
} from '../../abi/socket.ts'
import type { SysRet } from '../../kernel/sysret.ts'
import type { Task } from '../../kernel/task.ts'
import { EPOLLPRI } from '../../vfs/file-description.ts'
import type { Message } from '../message.ts'
import { attachFiles, type FilesInFlight, ownCreds, parseScm, putCreds, putFiles, Scm, SenderCreds } from '../scm.ts'
import { Packet, STREAM_PACKET_MAX, truesize } from './packet.ts'
import { DATA_READY, UnixSocket } from './unix-socket.ts'

/** What SO_PASSCRED shows at the end of the stream. */
const NO_SENDER = new SenderCreds(0, 0, 0)

export class UnixStream extends UnixSocket {
  /** The packet with the urgent byte, while nobody read it. */
  private urgent: Packet | null = null

  constructor(protocol: number, nonblock: boolean) {
    super(SOCK_STREAM, protocol, nonblock)
  }
  protected override sibling(nonblock: boolean): UnixSocket {
    return new UnixStream(this.protocol, nonblock)
  }

  override get writesFully(): boolean {
    return true
  }

  override sendmsg(t: Task, msg: Message): SysRet {
    let files: FilesInFlight | null = null
    let creds: SenderCreds | null = null
    if (msg.controlLen > 0) {
      const scm = new Scm()
      const bad = parseScm(t, this, msg, scm)
      if (bad !== 0) return bad
      creds = scm.creds
      if (scm.files !== null) {
        const attached = attachFiles(t, scm.files)
        if (typeof attached === 'number') return attached
        // The part that went out before the wait carried them.
        if (msg.resumed) attached.drop()
        else files = attached
      }
    }
    const ret = this.send(t, msg, files, creds)
    if (ret < 0 && files !== null) files.drop()
    return ret
  }

  /** Takes over `files` when the result is ≥ 0. */
  private send(t: Task, msg: Message, withFiles: FilesInFlight | null, creds: SenderCreds | null): SysRet {
    let files = withFiles
    const urgent = (msg.flags & MSG_OOB) !== 0 ? 1 : 0
    if (urgent > msg.iter!.remaining) return -EOPNOTSUPP
    if (msg.nameLen > 0) return this.state === TCP_ESTABLISHED ? -EISCONN : -EOPNOTSUPP
    const other = this.peer
    if (other === null) return -ENOTCONN
    if ((this.shut & SEND_SHUTDOWN) !== 0) return -EPIPE
    const iter = msg.iter!
    let sent = 0
    while (iter.remaining > 0) {
      // The urgent byte, the last one, has a packet to itself.
      const plain = iter.remaining - urgent
      const size = plain === 0 ? 1 : Math.min(plain, (this.sndBuf >> 1) - 64, STREAM_PACKET_MAX)
      const may = this.maySend()
      if (may !== 0) return sent > 0 ? sent : may
      const data = Buffer.allocUnsafe(size)
      if (iter.copyFrom(data, 0, size) < size) return sent > 0 ? sent : -EFAULT
      if (other.dead || (other.shut & RCV_SHUTDOWN) !== 0) return sent > 0 ? sent : -EPIPE
      const packet = new Packet(this, data, size, truesize(size, true))
      packet.files = files
      files = null
      packet.creds = creds ?? (this.passCred || other.passCred || other.ino === 0 ? ownCreds(t) : null)
      other.received.push(packet)
      sent += size
      if (plain === 0) (other as UnixStream).urge(packet)
      other.waitQueue.wake(DATA_READY)
    }
    if (files !== null) files.drop()
    return sent
  }

  override recvmsg(t: Task, msg: Message): SysRet {
    if (this.state !== TCP_ESTABLISHED) return -EINVAL
    if ((msg.flags & MSG_OOB) !== 0) return this.receiveUrgent(msg)
    const iter = msg.iter!
    const peek = (msg.flags & MSG_PEEK) !== 0
    let skip = peek && this.peekOff > 0 ? this.peekOff : 0
    let copied = 0
    let files: FilesInFlight | null = null
    let peekedFiles = false
    let creds: SenderCreds | null = null
    let haveCreds = false
    let p = this.afterMark(this.received.head, peek, false)
    while (p !== null && skip > 0 && skip >= p.remaining) {
      skip -= p.remaining
      p = this.afterMark(p.next, peek, false)
    }
    if (p === null) {
      const err = this.takeError()
      if (err !== 0) return err
      if ((this.shut & RCV_SHUTDOWN) !== 0) {
        msg.done = true
        this.deliver(t, msg, this.passCred, NO_SENDER, null, false)
        return 0
      }
      return -EAGAIN
    }
    const asked = iter.remaining
    // Also with room for nothing: descriptors and credentials of the next byte are delivered.
    do {
      if (haveCreds) {
        if (p.creds === null ? creds !== null : !p.creds.equals(creds)) {
          msg.done = true
          break
        }
      } else if (this.passCred) {
        creds = p.creds
        haveCreds = true
      }
      if (msg.wantName) UnixSocket.copyName(msg, p.sender)
      const want = Math.min(p.remaining - skip, iter.remaining)
      const n = iter.copyTo(p.data, p.consumed + skip, want)
      if (n < want) {
        if (copied === 0) return -EFAULT
        msg.done = true
        break
      }
      copied += n
      if (peek) {
        if (this.peekOff >= 0) this.peekOff += n
        if (p.files !== null) {
          files = p.files
          peekedFiles = true
          msg.done = true
          break
        }
        skip = 0
        p = this.afterMark(p.next, peek, copied > 0)
        continue
      }
      p.consumed += n
      if (this.peekOff > 0) this.peekOff = Math.max(0, this.peekOff - n)
      if (p.files !== null) {
        files = p.files
        p.files = null
        msg.done = true
      }
      if (p.remaining > 0) break
      this.received.shift()
      p.free()
      if (files !== null) break
      if (this.received.head !== null) {
        p = this.afterMark(this.received.head, peek, copied > 0)
        if (p === null) msg.done = true
      } else p = null
    } while (p !== null && iter.remaining > 0)
    // A read that looked for more has seen the pending error, though it returns what it got.
    const target = (msg.flags & MSG_WAITALL) !== 0 ? asked : Math.min(asked, this.rcvLowat)
    if (p === null && !msg.done && copied < target) this.takeError()
    this.deliver(t, msg, haveCreds, creds, files, peekedFiles)
    return copied
  }

  // ---- urgent data (MSG_OOB) -------------------------------------------------------------------------------------------
  /** `p`, the newest packet, holds the urgent byte; an earlier one becomes ordinary data. */
  private urge(p: Packet): void {
    this.urgent = p
    this.waitQueue.wake(EPOLLPRI)
  }

  /**
   * manage_oob(): where a read goes on when it comes to `p`. Before the urgent byte it stops (null) once it has something;
   * else it steps over the byte, which is lost unless SO_OOBINLINE.
   */
  private afterMark(p: Packet | null, peek: boolean, copied: boolean): Packet | null {
    let at = p
    if (at !== null && at.remaining === 0 && at.urgentRead) {
      if (copied) return null
      at = peek ? at.next : this.discardHead()
    }
    if (at === null || at !== this.urgent) return at
    if (copied) return null
    const inline = this.flag(SO_OOBINLINE) !== 0
    if (peek) return inline ? at : at.next
    this.urgent = null
    return inline ? at : this.discardHead()
  }

  private discardHead(): Packet | null {
    this.received.shift()!.free()
    return this.received.head
  }

  private receiveUrgent(msg: Message): SysRet {
    const p = this.urgent
    if (p === null || this.flag(SO_OOBINLINE) !== 0) return -EINVAL
    if (msg.iter!.copyTo(p.data, 0, 1) < 1) return -EFAULT
    if ((msg.flags & MSG_PEEK) === 0) {
      // The empty packet stays as the mark.
      this.urgent = null
      p.consumed = 1
      p.urgentRead = true
    }
    msg.outFlags |= MSG_OOB
    msg.done = true
    return 1
  }

  override poll(): number {
    return this.urgent !== null ? super.poll() | EPOLLPRI : super.poll()
  }

  protected override get atMark(): boolean {
    const p = this.received.head
    return p !== null && (p === this.urgent || (this.urgent === null && p.remaining === 0))
  }

  private deliver(
    t: Task,
    msg: Message,
    haveCreds: boolean,
    creds: SenderCreds | null,
    files: FilesInFlight | null,
    peeked: boolean,
  ): void {
    if (msg.controlLen === 0) {
      if (this.passCred || files !== null) msg.outFlags |= MSG_CTRUNC
      if (files !== null && !peeked) files.drop()
      return
    }
    // A read that waits for more gets them once.
    if (haveCreds && msg.controlUsed === 0) putCreds(msg, creds)
    if (files === null) return
    putFiles(t, msg, peeked ? files.files.map((f) => f.ref()) : files.take())
  }
}
