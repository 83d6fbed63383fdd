/**
 * NETLINK_ROUTE (rtnetlink(7)): what getifaddrs(3), `ip` and language runtimes ask. With network `none` it describes the
 * loopback interface; with `host` questions go to the host's namespace and changes are refused.
 */

import { HOST_DATA_MAX, hostData, hostRecv, hostSend, hostSocket } from '../../../native/host-socket.ts'
import { ENETUNREACH, ENODEV, EOPNOTSUPP, EPERM } from '../../abi/errno.ts'
import { AF_INET, AF_INET6, AF_NETLINK, AF_UNSPEC, SOCK_RAW } from '../../abi/socket.ts'
import { CAP_NET_ADMIN } from '../../kernel/credentials.ts'
import type { Task } from '../../kernel/task.ts'
import { ARPHRD_LOOPBACK, LO_FLAGS, LO_INDEX, LO_MTU } from '../interfaces.ts'
import { network } from '../network.ts'
import { NetlinkWriter, NLM_F_DUMP, NLM_F_MULTI, NLMSG_DONE, NLMSG_HEADER } from './netlink-message.ts'

const RTM_NEWLINK = 16
const RTM_GETLINK = 18
const RTM_SETLINK = 19
const RTM_NEWADDR = 20
const RTM_GETADDR = 22
const RTM_GETROUTE = 26
/** type & 3 of a request that only reads. */
const KIND_GET = 2
const IFLA_IFNAME = 3
/** IFF_LOWER_UP: rtnetlink shows it beside the flags of the ioctl. */
const IFF_LOWER_UP = 0x10000
const IFA_F_PERMANENT = 0x80
const RT_SCOPE_HOST = 254

/** Receives the datagrams of an answer. */
export type Reply = (datagram: Buffer) => void

const OUT = new NetlinkWriter()

/**
 * Answers one request message. 0 or −errno, which the caller acknowledges; answers go to `reply`. `portid` is the asker's.
 */
export function routeRequest(t: Task, request: Buffer, portid: number, reply: Reply): number {
  const type = request.readUInt16LE(4)
  if ((type & 3) !== KIND_GET) return changeRequest(t, request, type)
  if (network.mode === 'host') return askHost(request, portid, reply)
  const dump = (request.readUInt16LE(6) & NLM_F_DUMP) === NLM_F_DUMP
  const seq = request.readUInt32LE(8)
  const family = request.length > NLMSG_HEADER ? request[NLMSG_HEADER]! : AF_UNSPEC
  const flags = dump ? NLM_F_MULTI : 0
  if (type === RTM_GETLINK) {
    if (!dump && !namesLoopback(request)) return -ENODEV
    link(seq, portid, flags)
  } else if (type === RTM_GETADDR && dump) {
    if (family === AF_UNSPEC || family === AF_INET) address(AF_INET, seq, portid)
    if (family === AF_UNSPEC || family === AF_INET6) address(AF_INET6, seq, portid)
  } else if (!dump) return type === RTM_GETROUTE ? -ENETUNREACH : -EOPNOTSUPP
  if (!dump) {
    reply(OUT.take())
    return 0
  }
  const answers = OUT.take()
  if (answers.length > 0) reply(answers)
  OUT.begin(NLMSG_DONE, NLM_F_MULTI, seq, portid).u32(0).end()
  reply(OUT.take())
  return 0
}

/** The interface is up and has its addresses: saying so again is no change. */
function changeRequest(t: Task, request: Buffer, type: number): number {
  if (!t.creds.capable(CAP_NET_ADMIN)) return -EPERM
  if (network.mode === 'host') return -EPERM
  if (type === RTM_NEWADDR) return request.length >= 24 && request.readInt32LE(20) === LO_INDEX ? 0 : -ENODEV
  if (type === RTM_NEWLINK || type === RTM_SETLINK) {
    if (namesLoopback(request)) return 0
    return type === RTM_NEWLINK ? -EOPNOTSUPP : -ENODEV
  }
  return -EOPNOTSUPP
}

/** Whether a link request means `lo`, by index or IFLA_IFNAME. */
function namesLoopback(request: Buffer): boolean {
  if (request.length < NLMSG_HEADER + 16) return false
  if (request.readInt32LE(NLMSG_HEADER + 4) === LO_INDEX) return true
  for (let at = NLMSG_HEADER + 16; at + 4 <= request.length; ) {
    const len = request.readUInt16LE(at)
    if (len < 4 || at + len > request.length) return false
    if (request.readUInt16LE(at + 2) === IFLA_IFNAME) return request.toString('latin1', at + 4, at + 7) === 'lo\0'
    at += (len + 3) & ~3
  }
  return false
}

const ZEROS = Buffer.alloc(200)

function link(seq: number, pid: number, flags: number): void {
  const info = Buffer.alloc(16)
  info.writeUInt16LE(ARPHRD_LOOPBACK, 2)
  info.writeInt32LE(LO_INDEX, 4)
  info.writeUInt32LE(LO_FLAGS | IFF_LOWER_UP, 8)
  OUT.begin(RTM_NEWLINK, flags, seq, pid)
    .bytes(info)
    .attrString(IFLA_IFNAME, 'lo')
    .attrU32(13, 1000)
    .attrU8(16, 0)
    .attrU8(17, 0)
    .attrU32(4, LO_MTU)
    .attrU32(50, 0)
    .attrU32(51, 0)
    .attrU32(27, 0)
    .attrU32(30, 0)
    .attrU32(31, 1)
    .attrU32(40, 65535)
    .attrU32(41, 65536)
    .attrU32(32, 1)
    .attrU8(33, 1)
    .attrString(6, 'noqueue')
    .attrU32(35, 0)
    .attr(1, ZEROS.subarray(0, 6))
    .attr(2, ZEROS.subarray(0, 6))
    .attr(23, ZEROS.subarray(0, 192))
    .attr(7, ZEROS.subarray(0, 96))
    .end()
}

function address(family: number, seq: number, pid: number): void {
  const v4 = family === AF_INET
  const info = Buffer.from([family, v4 ? 8 : 128, IFA_F_PERMANENT, RT_SCOPE_HOST, LO_INDEX, 0, 0, 0])
  const addr = v4 ? Buffer.from([127, 0, 0, 1]) : Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
  const cache = Buffer.alloc(16)
  cache.fill(0xff, 0, 8)
  OUT.begin(RTM_NEWADDR, NLM_F_MULTI, seq, pid).bytes(info).attr(1, addr)
  if (v4) OUT.attr(2, addr).attrString(3, 'lo')
  OUT.attrU32(8, IFA_F_PERMANENT).attr(6, cache).end()
}

/** NLMSG_GOODSIZE: what fits a page together with the kernel's own bookkeeping. */
const GOOD_SIZE = 3776

let hostFd = -1

/** Sends a question to the host's rtnetlink, which answers at once, and hands its datagrams on with our port id. */
function askHost(request: Buffer, portid: number, reply: Reply): number {
  if (hostFd < 0) {
    hostFd = hostSocket(AF_NETLINK, SOCK_RAW, 0)
    if (hostFd < 0) {
      const err = hostFd
      hostFd = -1
      return err
    }
  }
  if (request.length > HOST_DATA_MAX) return -EOPNOTSUPP
  request.copy(hostData)
  // Acknowledgements are the caller's.
  hostData.writeUInt16LE(request.readUInt16LE(6) & ~4, 6)
  const sent = hostSend(hostFd, request.length, 0, 0, 0)
  if (sent < 0) return sent
  let err = 0
  for (;;) {
    const n = hostRecv(hostFd, HOST_DATA_MAX, false, 0, 0)
    if (n <= 0) return err
    const datagram = Buffer.from(hostData.subarray(0, n))
    if (n >= NLMSG_HEADER + 4 && datagram.readUInt16LE(4) === 2) {
      err = datagram.readInt32LE(NLMSG_HEADER)
      continue
    }
    // The host filled our large buffer; a guest may read with one page, as glibc does, so no datagram is larger than one
    // that Linux would have made for it, unless a single message is.
    let start = 0
    for (let at = 0; at + NLMSG_HEADER <= n; ) {
      const len = datagram.readUInt32LE(at)
      if (len < NLMSG_HEADER) break
      datagram.writeUInt32LE(portid, at + 12)
      const next = at + ((len + 3) & ~3)
      if (next - start > GOOD_SIZE && at > start) {
        reply(datagram.subarray(start, at))
        start = at
      }
      at = next
    }
    reply(datagram.subarray(start))
  }
}
