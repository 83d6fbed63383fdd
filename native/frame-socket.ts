/**
 * One end of a SOCK_SEQPACKET socketpair: whole frames in and out, at most one descriptor with each. The buffers, the
 * msghdr and its control area are allocated once. Descriptors arrive with FD_CLOEXEC; one that nobody takes is closed
 * with the next receive, so that a peer cannot fill our table.
 */
import { raw } from './host.ts'
import { closeFd, HostMemory } from './host-files.ts'

const { L } = raw
const NR_POLL = 7
const NR_SENDMSG = 46
const NR_RECVMSG = 47
const EINTR = 4
const EMSGSIZE = 90
const MSG_TRUNC = 0x20
const MSG_DONTWAIT = 0x40
const MSG_NOSIGNAL = 0x4000
const MSG_CMSG_CLOEXEC = 0x40000000
const SOL_SOCKET = 1
const SCM_RIGHTS = 1
/** struct msghdr (56), struct iovec (16), struct cmsghdr (16) + fd, and a struct pollfd. */
const IOV = 56
const CONTROL = 72
/* Exactly one descriptor: CMSG_SPACE(4) is 24 and would let two in. */
const CONTROL_LEN = 20
const POLLFD = 96
const POLLRDHUP = 0x2000

export class FrameSocket {
  readonly fd: number
  readonly out: HostMemory
  readonly in: HostMemory
  private readonly header = new HostMemory(104)
  private pendingFd = -1

  constructor(fd: number, maxFrame: number) {
    this.fd = fd
    this.out = new HostMemory(maxFrame)
    // One byte more, so that an over-long frame of exactly maxFrame + 1 bytes is noticed even without MSG_TRUNC.
    this.in = new HostMemory(maxFrame + 1)
    this.header.view.setBigUint64(16, BigInt(this.header.at(IOV)), true)
    this.header.view.setUint32(24, 1, true)
  }

  private prepare(address: number, length: number, controlLength: number): void {
    const v = this.header.view
    v.setBigUint64(IOV, BigInt(address), true)
    v.setUint32(IOV + 8, length, true)
    if (controlLength === 0) v.setBigUint64(32, 0n, true)
    else v.setBigUint64(32, BigInt(this.header.at(CONTROL)), true)
    v.setUint32(40, controlLength, true)
    v.setUint32(48, 0, true)
  }

  /** Sends `out[0, length)`, with a copy of descriptor `fd` if ≥ 0. Returns the length or −errno. */
  send(length: number, fd: number): number {
    this.prepare(this.out.address, length, fd < 0 ? 0 : CONTROL_LEN)
    if (fd >= 0) {
      const v = this.header.view
      v.setUint32(CONTROL, CONTROL_LEN, true)
      v.setUint32(CONTROL + 4, 0, true)
      v.setInt32(CONTROL + 8, SOL_SOCKET, true)
      v.setInt32(CONTROL + 12, SCM_RIGHTS, true)
      v.setInt32(CONTROL + 16, fd, true)
    }
    for (;;) {
      const n = L(NR_SENDMSG, this.fd, this.header.address, MSG_NOSIGNAL, 0, 0, 0)
      if (n !== -EINTR) return n
    }
  }

  /** Receives a frame into `in`; its length, 0 at the end, −EMSGSIZE for an over-long one (dropped), or −errno. */
  receive(dontWait: boolean): number {
    if (this.pendingFd >= 0) closeFd(this.takeFd())
    const size = this.in.bytes.length
    this.prepare(this.in.address, size, CONTROL_LEN)
    const flags = MSG_CMSG_CLOEXEC | MSG_TRUNC | (dontWait ? MSG_DONTWAIT : 0)
    const n = L(NR_RECVMSG, this.fd, this.header.address, flags, 0, 0, 0)
    if (n < 0) return n
    const v = this.header.view
    if (v.getUint32(40, true) >= CONTROL_LEN && v.getInt32(CONTROL + 12, true) === SCM_RIGHTS) {
      this.pendingFd = v.getInt32(CONTROL + 16, true)
    }
    return n >= size ? -EMSGSIZE : n
  }

  /** Whether the peer has closed its end. */
  get closed(): boolean {
    const v = this.header.view
    v.setInt32(POLLFD, this.fd, true)
    v.setUint16(POLLFD + 4, POLLRDHUP, true)
    v.setUint16(POLLFD + 6, 0, true)
    return L(NR_POLL, this.header.at(POLLFD), 1, 0, 0, 0, 0) > 0
  }

  /** The descriptor that came with the last frame, or −1; the caller owns it now. */
  takeFd(): number {
    const fd = this.pendingFd
    this.pendingFd = -1
    return fd
  }
}
