/**
 * Chooses the container's network at boot, and shows the sockets that the sentry itself implements in /proc/net.
 */
import { registerProcNet } from '../fs/proc/net.ts'
import { type NetworkMode, network } from './network.ts'
import * as tables from './proc-net.ts'

export function configureNetwork(mode: NetworkMode): void {
  network.mode = mode
  registerProcNet('unix', tables.unixTable)
  registerProcNet('netlink', tables.netlinkTable)
  if (mode === 'host') return
  registerProcNet('tcp', () => tables.tcpTable(false))
  registerProcNet('tcp6', () => tables.tcpTable(true))
  registerProcNet('udp', () => tables.udpTable(false))
  registerProcNet('udp6', () => tables.udpTable(true))
  registerProcNet('sockstat', tables.sockstat)
  registerProcNet('sockstat6', tables.sockstat6)
  registerProcNet('dev', () => tables.DEV)
  registerProcNet('route', () => tables.ROUTE)
  registerProcNet('if_inet6', () => tables.IF_INET6)
  registerProcNet('ipv6_route', () => tables.IPV6_ROUTE)
  registerProcNet('arp', () => tables.ARP)
}
