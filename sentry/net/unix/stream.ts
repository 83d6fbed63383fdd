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
  RCV_SHUTDOWN,
  SEND_SHUTDOWN,
  SOCK_STREAM,
  TCP_ESTABLISHED,
} from '../../abi/socket.ts'
import type { SysRet } from '../../kernel/sysret.ts'
import type { Task } from '../../kernel/task.ts'
import type { Message } from '../message.ts'
import {
  attachFiles,
  type FilesInFlight,
  ownCreds,
  parseScm,
  putCreds,
  putFiles,
  Scm,
  type SenderCreds,
} from '../scm.ts'
import { Packet, STREAM_PACKET_MAX, truesize } from './packet.ts'
import { READABLE, UnixSocket } from './unix-socket.ts'

export class UnixStream extends UnixSocket {
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
    if ((msg.flags & MSG_OOB) !== 0) return -EOPNOTSUPP
    if (msg.nameLen > 0) return this.state === TCP_ESTABLISHED ? -EISCONN : -EOPNOTSUPP
    const other = this.peer
    if (other === null) return -ENOTCONN
    if ((this.shut & SEND_SHUTDOWN) !== 0) return -EPIPE
    const iter = msg.iter!
    let sent = 0
    while (iter.remaining > 0) {
      const size = Math.min(iter.remaining, (this.sndBuf >> 1) - 64, STREAM_PACKET_MAX)
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
      other.waitQueue.wake(READABLE)
    }
    if (files !== null) files.drop()
    return sent
  }

  override recvmsg(t: Task, msg: Message): SysRet {
    if (this.state !== TCP_ESTABLISHED) return -EINVAL
    if ((msg.flags & MSG_OOB) !== 0) return -EOPNOTSUPP
    const iter = msg.iter!
    const peek = (msg.flags & MSG_PEEK) !== 0
    let skip = peek && this.peekOff > 0 ? this.peekOff : 0
    let copied = 0
    let files: FilesInFlight | null = null
    let peekedFiles = false
    let creds: SenderCreds | null = null
    let haveCreds = false
    let p = this.received.head
    while (p !== null && skip >= p.remaining) {
      skip -= p.remaining
      p = p.next
    }
    if (p === null) {
      const err = this.takeError()
      if (err !== 0) return err
      if ((this.shut & RCV_SHUTDOWN) !== 0) {
        msg.done = true
        return 0
      }
      return -EAGAIN
    }
    while (p !== null && (iter.remaining > 0 || (copied === 0 && p.remaining === 0))) {
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
        p = p.next
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
      p = this.received.head
    }
    this.deliver(t, msg, haveCreds, creds, files, peekedFiles)
    return copied
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
    if (haveCreds) putCreds(msg, creds)
    if (files === null) return
    putFiles(t, msg, peeked ? files.files.map((f) => f.ref()) : files.take())
  }
}
