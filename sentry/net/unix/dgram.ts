/**
 * AF_UNIX SOCK_DGRAM and SOCK_SEQPACKET: whole messages (Linux: unix_dgram_sendmsg, unix_dgram_recvmsg,
 * unix_seqpacket_*).
 */
import { EAGAIN, ECONNREFUSED, EFAULT, EINVAL, EMSGSIZE, ENOTCONN, EOPNOTSUPP, EPERM, EPIPE } from '../../abi/errno.ts'
import {
  AF_UNIX,
  MSG_CTRUNC,
  MSG_DONTWAIT,
  MSG_OOB,
  MSG_PEEK,
  MSG_TRUNC,
  RCV_SHUTDOWN,
  SO_TIMESTAMP,
  SO_TIMESTAMPNS,
  SOCK_SEQPACKET,
  SOL_SOCKET,
  TCP_CLOSE,
  TCP_ESTABLISHED,
  TCP_LISTEN,
} from '../../abi/socket.ts'
import { readRealtime } from '../../kernel/clock.ts'
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
import { autobind, SUN_PATH, SUN_SIZE } from './names.ts'
import { Packet, truesize } from './packet.ts'
import { DATA_READY, UnixSocket } from './unix-socket.ts'

const STAMP = Buffer.alloc(16)

export class UnixDatagram extends UnixSocket {
  protected override sibling(nonblock: boolean): UnixSocket {
    return new UnixDatagram(this.type, this.protocol, nonblock)
  }

  override sendmsg(t: Task, msg: Message): SysRet {
    if (this.type === SOCK_SEQPACKET) {
      const err = this.takeError()
      if (err !== 0) return err
      if (this.state !== TCP_ESTABLISHED) return -ENOTCONN
      msg.nameLen = 0
    }
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
        files = attached
      }
    }
    const ret = this.send(t, msg, files, creds)
    if (ret < 0 && files !== null) files.drop()
    return ret
  }

  private send(t: Task, msg: Message, files: FilesInFlight | null, creds: SenderCreds | null): SysRet {
    if ((msg.flags & MSG_OOB) !== 0) return -EOPNOTSUPP
    let other = this.peer
    if (msg.nameLen > 0) {
      if (msg.nameLen <= SUN_PATH || msg.nameLen > SUN_SIZE || msg.name.readUInt16LE(0) !== AF_UNIX) return -EINVAL
    }
    if (this.passCred && this.address === null) autobind(this)
    const iter = msg.iter!
    const len = iter.remaining
    if (len > this.sndBuf - 32) return -EMSGSIZE
    const may = this.maySend()
    if (may !== 0) return may
    const data = Buffer.allocUnsafe(len)
    if (iter.copyFrom(data, 0, len) < len) return -EFAULT
    if (msg.nameLen > 0) {
      const found = this.lookup(t, msg.name, msg.nameLen)
      if (typeof found === 'number') return found
      other = found
    }
    if (other === null) return -ENOTCONN
    if (!other.accepts(this)) return -EPERM
    if (other.dead) {
      if (this.type === SOCK_SEQPACKET) return -EPIPE
      if (this.peer !== other) return -ECONNREFUSED
      this.peer = null
      this.state = TCP_CLOSE
      this.disconnected(other)
      return -ECONNREFUSED
    }
    if ((other.shut & RCV_SHUTDOWN) !== 0) return -EPIPE
    if (other !== this && other.peer !== this && other.queueFull) {
      msg.waitQueue = other.peerWait
      return -EAGAIN
    }
    const packet = new Packet(this, data, len, truesize(len, false))
    packet.files = files
    packet.creds = creds ?? (this.passCred || other.passCred || other.ino === 0 ? ownCreds(t) : null)
    if (other.flag(SO_TIMESTAMP) !== 0 || other.flag(SO_TIMESTAMPNS) !== 0) {
      const now = readRealtime()
      packet.sec = now.sec
      packet.nsec = now.nsec
    }
    other.received.push(packet)
    other.waitQueue.wake(DATA_READY)
    return len
  }

  override recvmsg(t: Task, msg: Message): SysRet {
    if (this.type === SOCK_SEQPACKET && this.state !== TCP_ESTABLISHED) return -ENOTCONN
    if ((msg.flags & MSG_OOB) !== 0) return -EOPNOTSUPP
    const err = this.takeError()
    if (err !== 0) return err
    const peek = (msg.flags & MSG_PEEK) !== 0
    let skip = peek && this.peekOff > 0 ? this.peekOff : 0
    let p = this.received.head
    while (p !== null && skip >= p.length && p.length > 0) {
      skip -= p.length
      p = p.next
    }
    if (p === null) {
      const shut = (this.shut & RCV_SHUTDOWN) !== 0
      if (shut && (this.type === SOCK_SEQPACKET || (msg.flags & MSG_DONTWAIT) === 0)) return 0
      return -EAGAIN
    }
    if (!peek) {
      this.received.shift()
      this.roomAgain()
    }
    const iter = msg.iter!
    const left = p.length - skip
    const want = Math.min(left, iter.remaining)
    if (want < left) msg.outFlags |= MSG_TRUNC
    if (msg.wantName) UnixSocket.copyName(msg, p.sender)
    const fault = iter.copyTo(p.data, skip, want) < want
    if (fault) {
      if (!peek) p.free()
      return -EFAULT
    }
    if (this.peekOff >= 0) this.peekOff = peek ? this.peekOff + want : Math.max(0, this.peekOff - p.length)
    this.deliver(t, msg, p, peek)
    if (!peek) p.free()
    return (msg.flags & MSG_TRUNC) !== 0 ? left : want
  }

  private deliver(t: Task, msg: Message, p: Packet, peek: boolean): void {
    if (msg.controlLen === 0) {
      if (this.passCred || p.files !== null) msg.outFlags |= MSG_CTRUNC
      return
    }
    if (p.sec !== 0) this.putTimestamp(msg, p)
    if (this.passCred) putCreds(msg, p.creds)
    if (p.files === null) return
    if (peek)
      putFiles(
        t,
        msg,
        p.files.files.map((f) => f.ref()),
      )
    else {
      const files = p.files.take()
      p.files = null
      putFiles(t, msg, files)
    }
  }

  private putTimestamp(msg: Message, p: Packet): void {
    const ns = this.flag(SO_TIMESTAMPNS) !== 0
    STAMP.writeDoubleLE(0, 8)
    STAMP.writeUInt32LE(p.sec >>> 0, 0)
    STAMP.writeUInt32LE(Math.floor(p.sec / 0x1_0000_0000), 4)
    STAMP.writeUInt32LE(ns ? p.nsec : Math.floor(p.nsec / 1000), 8)
    msg.putControl(SOL_SOCKET, ns ? SO_TIMESTAMPNS : SO_TIMESTAMP, STAMP)
  }

  override accepts(sender: UnixSocket): boolean {
    return this.state === TCP_LISTEN ? false : super.accepts(sender)
  }
}
