/**
 * socket(2) and socketpair(2) by family (Linux: net_families). A family that is not here is −EAFNOSUPPORT, as on a kernel
 * without it.
 */
import { EAFNOSUPPORT, EINVAL } from '../abi/errno.ts'
import { AF_INET, AF_INET6, AF_MAX, AF_NETLINK, AF_PACKET, AF_UNIX, SOCK_MAX, SOCK_PACKET } from '../abi/socket.ts'
import type { Task } from '../kernel/task.ts'
import { inetFamily } from './inet/family.ts'
import { netlinkFamily } from './netlink/family.ts'
import { packetFamily } from './packet-family.ts'
import type { Socket } from './socket.ts'
import type { SocketFamily } from './socket-family.ts'
import { unixFamily } from './unix/family.ts'

const FAMILIES: (SocketFamily | undefined)[] = []
FAMILIES[AF_UNIX] = unixFamily
FAMILIES[AF_INET] = inetFamily(AF_INET)
FAMILIES[AF_INET6] = inetFamily(AF_INET6)
FAMILIES[AF_NETLINK] = netlinkFamily
FAMILIES[AF_PACKET] = packetFamily

export function createSocket(
  t: Task,
  family: number,
  type: number,
  protocol: number,
  nonblock: boolean,
): Socket | number {
  if (family < 0 || family >= AF_MAX) return -EAFNOSUPPORT
  if (type < 0 || type >= SOCK_MAX) return -EINVAL
  const ops = FAMILIES[family === AF_INET && type === SOCK_PACKET ? AF_PACKET : family]
  if (ops === undefined) return -EAFNOSUPPORT
  const s = ops.create(t, type, protocol, nonblock)
  return typeof s === 'number' ? s : s.attach(t.creds)
}

export function pairSockets(t: Task, a: Socket, b: Socket): number {
  return FAMILIES[a.family]!.pair(t, a, b)
}
