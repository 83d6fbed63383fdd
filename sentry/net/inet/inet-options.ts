/**
 * setsockopt(2) at IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP and IPPROTO_UDP for sockets of the loopback stack.
 *
 * With one interface that loses nothing, most options have no effect to show: they are checked and remembered, so that a
 * program reads back what it set or, before that, Linux's default.
 */
import { EINVAL, ENOENT, ENOPROTOOPT, ENOTCONN, EPERM } from '../../abi/errno.ts'
import * as S from '../../abi/socket.ts'
import { CAP_NET_ADMIN, CAP_NET_RAW } from '../../kernel/credentials.ts'
import type { SysRet } from '../../kernel/sysret.ts'
import type { Task } from '../../kernel/task.ts'

/** [default, smallest, largest] by option; a value outside is −EINVAL. */
type Range = readonly [number, number, number]
const BOOL: Range = [0, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY]
const INT_MAX = 0x7fffffff
/** TCP_MSS_DEFAULT, and net.ipv4.tcp_fin_timeout in seconds. */
const DEFAULT_MSS = 536
const FIN_TIMEOUT = 60

const IP_INTS = new Map<number, Range>([
  [S.IP_TOS, [0, 0, 255]],
  [S.IP_TTL, [64, 1, 255]],
  [S.IP_MTU_DISCOVER, [1, 0, 5]],
  [S.IP_MINTTL, [0, 0, 255]],
  [S.IP_MULTICAST_TTL, [1, 0, 255]],
  [S.IP_RECVERR_RFC4884, [0, 0, 1]],
])
/** Read as zero, and refused when set: of raw sockets. */
const IP_RAW_ONLY = new Set([S.IP_HDRINCL, S.IP_NODEFRAG])
const IP_BOOLS = new Map<number, number>([
  [S.IP_RECVOPTS, 0],
  [S.IP_RETOPTS, 0],
  [S.IP_PKTINFO, 0],
  [S.IP_RECVERR, 0],
  [S.IP_RECVTTL, 0],
  [S.IP_RECVTOS, 0],
  [S.IP_FREEBIND, 0],
  [S.IP_RECVORIGDSTADDR, 0],
  [S.IP_CHECKSUM, 0],
  [S.IP_BIND_ADDRESS_NO_PORT, 0],
  [S.IP_MULTICAST_LOOP, 1],
  [S.IP_MULTICAST_ALL, 1],
  [S.IP_PASSSEC, 0],
])
/** Options that a too short value does not turn into zero. */
const IP_NEEDS_VALUE = new Set([S.IP_TTL, S.IP_MINTTL, S.IP_FREEBIND, S.IP_MULTICAST_TTL, S.IP_MULTICAST_LOOP])
const IPV6_INTS = new Map<number, Range>([
  [S.IPV6_UNICAST_HOPS, [64, -1, 255]],
  [S.IPV6_MULTICAST_HOPS, [1, -1, 255]],
  [S.IPV6_MTU_DISCOVER, [1, 0, 5]],
  [S.IPV6_TCLASS, [0, -1, 255]],
  [S.IPV6_ADDR_PREFERENCES, [0, 0, 0xffff]],
  [S.IPV6_MULTICAST_IF, [0, 0, 1]],
])
const IPV6_BOOLS = new Map<number, number>([
  [S.IPV6_RECVPKTINFO, 0],
  [S.IPV6_RECVHOPLIMIT, 0],
  [S.IPV6_RECVTCLASS, 0],
  [S.IPV6_RECVERR, 0],
  [S.IPV6_MULTICAST_LOOP, 1],
  [S.IPV6_MULTICAST_ALL, 1],
  [S.IPV6_DONTFRAG, 0],
  [S.IPV6_AUTOFLOWLABEL, 1],
  [S.IPV6_FREEBIND, 0],
])
const TCP_INTS = new Map<number, Range>([
  [S.TCP_NODELAY, BOOL],
  [S.TCP_CORK, BOOL],
  [S.TCP_QUICKACK, [1, BOOL[1], BOOL[2]]],
  [S.TCP_MAXSEG, [DEFAULT_MSS, 88, 32767]],
  [S.TCP_KEEPIDLE, [7200, 1, 32767]],
  [S.TCP_KEEPINTVL, [75, 1, 32767]],
  [S.TCP_KEEPCNT, [9, 1, 127]],
  [S.TCP_SYNCNT, [6, 1, 127]],
  [S.TCP_LINGER2, [FIN_TIMEOUT, BOOL[1], BOOL[2]]],
  [S.TCP_DEFER_ACCEPT, [0, BOOL[1], BOOL[2]]],
  [S.TCP_WINDOW_CLAMP, [0, 0, INT_MAX]],
  [S.TCP_THIN_LINEAR_TIMEOUTS, [0, 0, 1]],
  [S.TCP_THIN_DUPACK, [0, 0, 1]],
  [S.TCP_USER_TIMEOUT, [0, 0, INT_MAX]],
  [S.TCP_FASTOPEN, [0, 0, INT_MAX]],
  [S.TCP_FASTOPEN_CONNECT, [0, 0, 1]],
  [S.TCP_NOTSENT_LOWAT, [0, BOOL[1], BOOL[2]]],
  [S.TCP_SAVE_SYN, [0, 0, 1]],
  [S.TCP_TIMESTAMP, [0, BOOL[1], BOOL[2]]],
  [S.TCP_INQ, [0, 0, 1]],
])
const MEMBERSHIP = new Set([
  S.IP_ADD_MEMBERSHIP,
  S.IP_DROP_MEMBERSHIP,
  S.IP_ADD_SOURCE_MEMBERSHIP,
  S.IP_DROP_SOURCE_MEMBERSHIP,
  S.IP_BLOCK_SOURCE,
  S.IP_UNBLOCK_SOURCE,
  S.IP_MULTICAST_IF,
])

export class InetOptions {
  /** Key: level << 16 | option. */
  private readonly values = new Map<number, number>()
  congestion = 'cubic'
  private readonly stream: boolean

  constructor(stream: boolean) {
    this.stream = stream
  }

  get(level: number, name: number): number {
    const set = this.values.get((level << 16) | name)
    if (set !== undefined) return set
    if (level === S.SOL_IP) return IP_INTS.get(name)?.[0] ?? IP_BOOLS.get(name) ?? 0
    if (level === S.SOL_IPV6) return IPV6_INTS.get(name)?.[0] ?? IPV6_BOOLS.get(name) ?? 0
    return TCP_INTS.get(name)?.[0] ?? 0
  }
  private put(level: number, name: number, v: number): number {
    this.values.set((level << 16) | name, v)
    return 0
  }
  copyFrom(o: InetOptions): void {
    for (const [k, v] of o.values) this.values.set(k, v)
    this.congestion = o.congestion
  }

  /** IPPROTO_IP. */
  setIp(t: Task, name: number, val: Buffer, len: number): SysRet {
    if (MEMBERSHIP.has(name)) return len < 8 && name !== S.IP_MULTICAST_IF ? -EINVAL : 0
    if (name >= S.MCAST_JOIN_GROUP && name <= S.MCAST_LEAVE_SOURCE_GROUP) return len < 136 ? -EINVAL : 0
    if (name === S.IP_OPTIONS || name === S.IP_MSFILTER) return 0
    const v = len >= 4 ? val.readInt32LE(0) : len >= 1 ? val[0]! : 0
    if (IP_RAW_ONLY.has(name)) return -ENOPROTOOPT
    if (name === S.IP_ROUTER_ALERT || (len < 1 && IP_NEEDS_VALUE.has(name))) return -EINVAL
    if (name === S.IP_TRANSPARENT) {
      if (len < 1) return -EINVAL
      if (v !== 0 && !t.creds.capable(CAP_NET_RAW) && !t.creds.capable(CAP_NET_ADMIN)) return -EPERM
      return this.put(S.SOL_IP, name, v !== 0 ? 1 : 0)
    }
    const range = IP_INTS.get(name)
    if (range !== undefined) {
      const wanted = v === -1 && (name === S.IP_TTL || name === S.IP_MULTICAST_TTL) ? range[0] : v
      // The congestion bits of a stream are TCP's own.
      if (name === S.IP_TOS) return this.put(S.SOL_IP, name, wanted & (this.stream ? 0xfc : 0xff))
      return wanted < range[1] || wanted > range[2] ? -EINVAL : this.put(S.SOL_IP, name, wanted)
    }
    if (IP_BOOLS.has(name)) return this.put(S.SOL_IP, name, v !== 0 ? 1 : 0)
    if (name === S.IP_UNICAST_IF || name === S.IP_LOCAL_PORT_RANGE) return this.put(S.SOL_IP, name, v)
    return -ENOPROTOOPT
  }

  getIp(name: number, out: Buffer, len: number): SysRet {
    if (name === S.IP_OPTIONS || name === S.IP_PKTOPTIONS) return 0
    if (name === S.IP_MTU) return -ENOTCONN
    const known =
      IP_INTS.has(name) ||
      IP_BOOLS.has(name) ||
      name === S.IP_TRANSPARENT ||
      name === S.IP_ROUTER_ALERT ||
      IP_RAW_ONLY.has(name) ||
      name === S.IP_UNICAST_IF ||
      name === S.IP_LOCAL_PORT_RANGE ||
      name === S.IP_MULTICAST_IF
    if (!known) return -ENOPROTOOPT
    const v = this.get(S.SOL_IP, name)
    // A caller with room for less than an int gets a byte, as BSD does it.
    if (len > 0 && len < 4 && v >= 0 && v <= 255) {
      out[0] = v
      return 1
    }
    out.writeInt32LE(v, 0)
    return 4
  }

  /** IPPROTO_IPV6. V6ONLY is the socket's own. */
  setIpv6(name: number, val: Buffer, len: number): SysRet {
    if (name === S.IPV6_JOIN_GROUP || name === S.IPV6_LEAVE_GROUP) return len < 20 ? -EINVAL : 0
    if (name >= S.MCAST_JOIN_GROUP && name <= S.MCAST_LEAVE_SOURCE_GROUP) return len < 136 ? -EINVAL : 0
    const short = len < 4
    if (short && name !== S.IPV6_DONTFRAG) {
      return IPV6_INTS.has(name) || IPV6_BOOLS.has(name) ? -EINVAL : -ENOPROTOOPT
    }
    const v = short ? 0 : val.readInt32LE(0)
    if (name === S.IPV6_MULTICAST_LOOP && v !== 0 && v !== 1) return -EINVAL
    const range = IPV6_INTS.get(name)
    if (range !== undefined) {
      if (v < range[1] || v > range[2]) return -EINVAL
      return this.put(S.SOL_IPV6, name, v === -1 ? range[0] : v)
    }
    if (IPV6_BOOLS.has(name)) return this.put(S.SOL_IPV6, name, v !== 0 ? 1 : 0)
    return -ENOPROTOOPT
  }
  getIpv6(name: number, out: Buffer): SysRet {
    if (name === S.IPV6_MTU) return -ENOTCONN
    if (!IPV6_INTS.has(name) && !IPV6_BOOLS.has(name)) return -ENOPROTOOPT
    out.writeInt32LE(this.get(S.SOL_IPV6, name), 0)
    return 4
  }

  /** IPPROTO_TCP. */
  setTcp(name: number, val: Buffer, len: number): SysRet {
    if (name === S.TCP_CONGESTION) {
      if (len < 1) return -EINVAL
      const end = val.indexOf(0)
      const wanted = val.toString('latin1', 0, Math.min(end < 0 ? len : end, len, 15))
      if (wanted !== 'cubic' && wanted !== 'reno') return -ENOENT
      this.congestion = wanted
      return 0
    }
    if (name === S.TCP_ULP) return -ENOENT
    if (len < 4) return -EINVAL
    const range = TCP_INTS.get(name)
    if (range === undefined) return -ENOPROTOOPT
    const v = val.readInt32LE(0)
    switch (name) {
      case S.TCP_MAXSEG:
        return v !== 0 && (v < range[1] || v > range[2]) ? -EINVAL : this.put(S.SOL_TCP, name, v)
      case S.TCP_WINDOW_CLAMP:
        return this.put(S.SOL_TCP, name, v === 0 ? 0 : Math.max(v, S.SOCK_MIN_RCVBUF / 2))
      case S.TCP_LINGER2:
        return this.put(S.SOL_TCP, name, v < 0 ? -1 : v === 0 ? FIN_TIMEOUT : Math.min(v, 120))
      case S.TCP_DEFER_ACCEPT:
        return this.put(S.SOL_TCP, name, retransmitSeconds(v))
      case S.TCP_FASTOPEN:
        return v < 0 ? -EINVAL : this.put(S.SOL_TCP, name, Math.min(v, S.SOMAXCONN))
      case S.TCP_THIN_DUPACK:
        return v < 0 || v > 1 ? -EINVAL : 0
      case S.TCP_TIMESTAMP:
        return -EPERM
    }
    if (v < range[1] || v > range[2]) return -EINVAL
    return this.put(S.SOL_TCP, name, range === BOOL || name === S.TCP_QUICKACK ? (v !== 0 ? 1 : 0) : v)
  }
  getTcp(name: number, out: Buffer): SysRet {
    if (name === S.TCP_CONGESTION) {
      out.fill(0, 0, 16)
      out.write(this.congestion, 0, 'latin1')
      return 16
    }
    if (name === S.TCP_ULP || name === S.TCP_SAVED_SYN) return 0
    if (!TCP_INTS.has(name)) return -ENOPROTOOPT
    const v = this.get(S.SOL_TCP, name)
    out.writeInt32LE(name === S.TCP_MAXSEG && v === 0 ? DEFAULT_MSS : v, 0)
    return 4
  }
}

/** Seconds as Linux keeps them for TCP_DEFER_ACCEPT: whole retransmissions of 1, 2, 4 … at most 120 seconds. */
function retransmitSeconds(wanted: number): number {
  let period = 0
  let timeout = 1
  for (let n = 0; n < 255 && period < wanted; n++) {
    period += timeout
    timeout = Math.min(timeout * 2, 120)
  }
  return period
}
