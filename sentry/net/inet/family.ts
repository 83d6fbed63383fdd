/**
 * AF_INET and AF_INET6 in the table of families (Linux: inet_create, inet6_create): picks the loopback stack or sockets
 * of the host by the container's network mode.
 */
import { EACCES, EINVAL, EOPNOTSUPP, EPERM, EPROTONOSUPPORT, ESOCKTNOSUPPORT } from '../../abi/errno.ts'
import { SOCK_DGRAM, SOCK_RAW, SOCK_STREAM } from '../../abi/socket.ts'
import { CAP_NET_RAW } from '../../kernel/credentials.ts'
import { network } from '../network.ts'
import type { SocketFamily } from '../socket-family.ts'
import { HostSocket } from './host-socket.ts'
import { TcpSocket } from './tcp.ts'
import { UdpSocket } from './udp.ts'

const IPPROTO_ICMP = 1
const IPPROTO_TCP = 6
const IPPROTO_UDP = 17
const IPPROTO_ICMPV6 = 58
const IPPROTO_UDPLITE = 136
const IPPROTO_MAX = 263

/** The protocol that a type stands for, or −errno. */
function resolve(type: number, protocol: number): number {
  if (protocol < 0 || protocol >= IPPROTO_MAX) return -EINVAL
  switch (type) {
    case SOCK_STREAM:
      return protocol === 0 || protocol === IPPROTO_TCP ? IPPROTO_TCP : -EPROTONOSUPPORT
    case SOCK_DGRAM:
      if (protocol === 0 || protocol === IPPROTO_UDP) return IPPROTO_UDP
      if (protocol === IPPROTO_UDPLITE) return protocol
      return protocol === IPPROTO_ICMP || protocol === IPPROTO_ICMPV6 ? protocol : -EPROTONOSUPPORT
    case SOCK_RAW:
      return protocol === 0 ? -EPROTONOSUPPORT : protocol
    default:
      return -ESOCKTNOSUPPORT
  }
}

export function inetFamily(family: number): SocketFamily {
  return {
    create(t, type, protocol, nonblock) {
      const proto = resolve(type, protocol)
      if (proto < 0) return proto
      if (type === SOCK_RAW && !t.creds.capable(CAP_NET_RAW)) return -EPERM
      if (network.mode === 'host') return HostSocket.create(t, family, type, proto, nonblock)
      if (type === SOCK_STREAM) return new TcpSocket(family, proto, nonblock, t.creds.euid)
      if (type === SOCK_DGRAM && (proto === IPPROTO_UDP || proto === IPPROTO_UDPLITE))
        return new UdpSocket(family, proto, nonblock, t.creds.euid)
      // net.ipv4.ping_group_range is empty, and there is nobody to ping but ourselves.
      return type === SOCK_DGRAM ? -EACCES : -ESOCKTNOSUPPORT
    },
    pair: () => -EOPNOTSUPP,
  }
}
