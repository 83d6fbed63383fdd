/**
 * AF_NETLINK in the table of families. NETLINK_ROUTE answers; NETLINK_SOCK_DIAG knows no family, as without its modules, so
 * that ss(8) reads /proc/net; NETLINK_KOBJECT_UEVENT stays silent, as in a container; the rest is −EPROTONOSUPPORT.
 */
import { EOPNOTSUPP, EPROTONOSUPPORT, ESOCKTNOSUPPORT } from '../../abi/errno.ts'
import { SOCK_DGRAM, SOCK_RAW } from '../../abi/socket.ts'
import type { SocketFamily } from '../socket-family.ts'
import { NETLINK_ROUTE, NETLINK_SOCK_DIAG, NetlinkSocket } from './netlink-socket.ts'

const NETLINK_KOBJECT_UEVENT = 15

export const netlinkFamily: SocketFamily = {
  create(_t, type, protocol, nonblock) {
    if (type !== SOCK_RAW && type !== SOCK_DGRAM) return -ESOCKTNOSUPPORT
    if (protocol !== NETLINK_ROUTE && protocol !== NETLINK_SOCK_DIAG && protocol !== NETLINK_KOBJECT_UEVENT) {
      return -EPROTONOSUPPORT
    }
    return new NetlinkSocket(type, protocol, nonblock)
  },
  pair: () => -EOPNOTSUPP,
}
