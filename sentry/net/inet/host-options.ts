/**
 * Which socket options of a guest reach the host's socket in network mode `host`. What is not listed is answered by the
 * sentry or refused: an option must neither reach beyond the socket nor carry pointers.
 */
import * as S from '../../abi/socket.ts'

/** SOL_SOCKET options that are set on, and read from, the host's socket. Time-outs, credentials and filters are ours. */
export const HOST_SOCKET_OPTIONS: ReadonlySet<number> = new Set([
  S.SO_REUSEADDR,
  S.SO_REUSEPORT,
  S.SO_DONTROUTE,
  S.SO_BROADCAST,
  S.SO_SNDBUF,
  S.SO_RCVBUF,
  S.SO_KEEPALIVE,
  S.SO_OOBINLINE,
  S.SO_NO_CHECK,
  S.SO_PRIORITY,
  S.SO_TIMESTAMP,
  S.SO_TIMESTAMPNS,
  S.SO_TIMESTAMP_NEW,
  S.SO_TIMESTAMPNS_NEW,
  S.SO_RXQ_OVFL,
  S.SO_MAX_PACING_RATE,
  S.SO_INCOMING_CPU,
  S.SO_BUF_LOCK,
  S.SO_RCVLOWAT,
])
/** Only read. */
export const HOST_SOCKET_READS: ReadonlySet<number> = new Set([
  S.SO_ERROR,
  S.SO_TYPE,
  S.SO_PROTOCOL,
  S.SO_DOMAIN,
  S.SO_ACCEPTCONN,
  S.SO_MEMINFO,
  S.SO_MARK,
])

const IP = new Set([
  S.IP_ROUTER_ALERT,
  S.IP_RECVOPTS,
  S.IP_RETOPTS,
  S.IP_PASSSEC,
  S.IP_TRANSPARENT,
  S.IP_NODEFRAG,
  S.IP_CHECKSUM,
  S.IP_TOS,
  S.IP_TTL,
  S.IP_PKTINFO,
  S.IP_MTU_DISCOVER,
  S.IP_RECVERR,
  S.IP_RECVTTL,
  S.IP_RECVTOS,
  S.IP_FREEBIND,
  S.IP_RECVORIGDSTADDR,
  S.IP_MINTTL,
  S.IP_BIND_ADDRESS_NO_PORT,
  S.IP_MULTICAST_IF,
  S.IP_MULTICAST_TTL,
  S.IP_MULTICAST_LOOP,
  S.IP_MULTICAST_ALL,
  S.IP_ADD_MEMBERSHIP,
  S.IP_DROP_MEMBERSHIP,
  S.IP_ADD_SOURCE_MEMBERSHIP,
  S.IP_DROP_SOURCE_MEMBERSHIP,
  S.IP_BLOCK_SOURCE,
  S.IP_UNBLOCK_SOURCE,
  S.IP_RECVERR_RFC4884,
  S.IP_LOCAL_PORT_RANGE,
  S.IP_UNICAST_IF,
  S.IP_HDRINCL,
  S.MCAST_JOIN_GROUP,
  43,
  44,
  45,
  46,
  S.MCAST_LEAVE_SOURCE_GROUP,
])
const IPV6 = new Set([
  S.IPV6_UNICAST_HOPS,
  S.IPV6_MULTICAST_IF,
  S.IPV6_MULTICAST_HOPS,
  S.IPV6_MULTICAST_LOOP,
  S.IPV6_JOIN_GROUP,
  S.IPV6_LEAVE_GROUP,
  S.IPV6_MTU_DISCOVER,
  S.IPV6_MTU,
  S.IPV6_RECVERR,
  S.IPV6_V6ONLY,
  S.IPV6_MULTICAST_ALL,
  S.IPV6_RECVPKTINFO,
  S.IPV6_RECVHOPLIMIT,
  S.IPV6_RECVTCLASS,
  S.IPV6_TCLASS,
  S.IPV6_DONTFRAG,
  S.IPV6_AUTOFLOWLABEL,
  S.IPV6_ADDR_PREFERENCES,
  S.IPV6_FREEBIND,
  S.IPV6_CHECKSUM,
  S.MCAST_JOIN_GROUP,
  43,
  44,
  45,
  46,
  S.MCAST_LEAVE_SOURCE_GROUP,
])
const TCP = new Set([
  S.TCP_NODELAY,
  S.TCP_MAXSEG,
  S.TCP_CORK,
  S.TCP_KEEPIDLE,
  S.TCP_KEEPINTVL,
  S.TCP_KEEPCNT,
  S.TCP_SYNCNT,
  S.TCP_LINGER2,
  S.TCP_DEFER_ACCEPT,
  S.TCP_WINDOW_CLAMP,
  S.TCP_QUICKACK,
  S.TCP_CONGESTION,
  S.TCP_THIN_LINEAR_TIMEOUTS,
  S.TCP_THIN_DUPACK,
  S.TCP_USER_TIMEOUT,
  S.TCP_FASTOPEN,
  S.TCP_FASTOPEN_CONNECT,
  S.TCP_NOTSENT_LOWAT,
  S.TCP_TIMESTAMP,
  S.TCP_SAVE_SYN,
  S.TCP_INQ,
])
const ICMP6_FILTER = 1
const UDP = new Set([1, 101, 102, 103, 104])

export function hostOptionAllowed(level: number, name: number, set: boolean): boolean {
  switch (level) {
    case S.SOL_IP:
      return IP.has(name) || (!set && name === S.IP_MTU)
    case S.SOL_IPV6:
      return IPV6.has(name)
    case S.SOL_TCP:
      return TCP.has(name) || (!set && (name === S.TCP_INFO || name === S.TCP_CC_INFO || name === S.TCP_SAVED_SYN))
    case S.SOL_UDP:
      return UDP.has(name)
    case S.SOL_ICMPV6:
    case S.SOL_RAW:
      return name === ICMP6_FILTER
    default:
      return false
  }
}

const UDP_SEGMENT = 103

/** Ancillary data that may go to the host: packet attributes, nothing that names kernel objects. */
export function hostControlAllowed(control: Buffer, len: number): boolean {
  for (let at = 0; at + 16 <= len; ) {
    const size = control.readUInt32LE(at)
    if (control.readUInt32LE(at + 4) !== 0 || size < 16 || size > len - at) return false
    const level = control.readInt32LE(at + 8)
    const type = control.readInt32LE(at + 12)
    const ok =
      (level === S.SOL_IP && (type === S.IP_PKTINFO || type === S.IP_TTL || type === S.IP_TOS)) ||
      (level === S.SOL_IPV6 && (type === S.IPV6_PKTINFO || type === S.IPV6_HOPLIMIT || type === S.IPV6_TCLASS)) ||
      (level === S.SOL_UDP && type === UDP_SEGMENT)
    if (!ok) return false
    at += (size + 7) & ~7
  }
  return true
}
