/**
 * /proc/PID/net: one for the container (Linux: fs/proc/proc_net.c and each protocol's seq files).
 *
 * The sentry lives in the container's network namespace, so the host's tables of that namespace are the container's.
 * Families that the sentry implements itself (AF_UNIX, loopback without network) register their tables here.
 */
import { ENOENT } from '../../abi/errno.ts'
import { hostPidFile } from '../../kernel/host-proc.ts'
import type { Kernel } from '../../kernel/kernel.ts'
import type { Task } from '../../kernel/task.ts'
import { TreeDirectory } from '../pseudo/directory.ts'
import { TextFile } from '../pseudo/file.ts'
import type { ProcSuperBlock } from './super-block.ts'

export type NetTable = (t: Task) => string

const tables = new Map<string, NetTable>()

/** Shows `render` as /proc/net/`name`, instead of the host's. Call before the first look at /proc/net. */
export function registerProcNet(name: string, render: NetTable): void {
  tables.set(name, render)
}

/** Shown when the host's table is missing: an empty one with its heading. */
const EMPTY: Record<string, string> = {
  dev:
    'Inter-|   Receive                                                |  Transmit\n' +
    ' face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n',
  route: 'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n',
  tcp: '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n',
  udp: '   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n',
  arp: 'IP address       HW type     Flags       HW address            Mask     Device\n',
}

/** What is only the host's business, or holds pointers into it, shows as empty. */
const OWN: Record<string, string> = {
  unix: 'Num       RefCount Protocol Flags    Type St Inode Path\n',
  netlink: 'sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n',
  packet: 'sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n',
  ptype: 'Type Device      Function\n',
}

const FROM_HOST = [
  'anycast6',
  'arp',
  'dev',
  'dev_mcast',
  'fib_trie',
  'fib_triestat',
  'icmp',
  'icmp6',
  'if_inet6',
  'igmp',
  'igmp6',
  'ip6_flowlabel',
  'ipv6_route',
  'mcfilter',
  'mcfilter6',
  'netstat',
  'protocols',
  'psched',
  'raw',
  'raw6',
  'route',
  'rt6_stats',
  'snmp',
  'snmp6',
  'sockstat',
  'sockstat6',
  'softnet_stat',
  'tcp',
  'tcp6',
  'udp',
  'udp6',
  'udplite',
  'udplite6',
  'wireless',
]

/** The sentry's own table of the host. */
function hostTable(name: string): string {
  const text = hostPidFile(process.pid, `net/${name}`)
  return text === '' ? (EMPTY[name] ?? '') : text
}

const made = new WeakMap<Kernel, TreeDirectory>()

export function netDirectory(sb: ProcSuperBlock): TreeDirectory {
  const have = made.get(sb.kernel)
  if (have !== undefined && have.sb === sb) return have
  const dir = new TreeDirectory(sb, 0o555)
  for (const name of FROM_HOST) dir.add(name, new TextFile(sb, 0o444, (t) => tables.get(name)?.(t) ?? hostTable(name)))
  for (const [name, text] of Object.entries(OWN)) {
    dir.add(name, new TextFile(sb, 0o444, (t) => tables.get(name)?.(t) ?? text))
  }
  for (const [name, render] of tables) {
    if (dir.lookup(name) === -ENOENT) dir.add(name, new TextFile(sb, 0o444, render))
  }
  dir.dir('stat')
  dir.dir('netfilter')
  dir.dir('dev_snmp6')
  made.set(sb.kernel, dir)
  return dir
}
