/**
 * The tables of /proc/net for sockets that live in the sentry: AF_UNIX and netlink always, TCP and UDP with network `none`.
 * Formats are Linux's, to the column (get_tcp4_sock, udp4_format_sock, unix_seq_show, netlink_native_seq_show).
 *
 * Where Linux prints a kernel address, hidden or hashed, these print zeros: nothing of the sentry's memory shows.
 */
import { AF_INET, AF_INET6, SOCK_STREAM, TCP_ESTABLISHED, TCP_LISTEN } from '../abi/socket.ts'
import { isV6, V6_LOOPBACK } from './inet/endpoint.ts'
import type { LoopbackSocket } from './inet/loopback-socket.ts'
import { TCP_PORTS, UDP_PORTS } from './inet/ports.ts'
import { TcpSocket } from './inet/tcp.ts'
import { UdpSocket } from './inet/udp.ts'
import { netlinkSockets } from './netlink/netlink-socket.ts'
import { liveSockets, SUN_PATH } from './unix/names.ts'

const NO_ADDRESS = '0000000000000000'
const hex = (v: number, width: number): string => (v >>> 0).toString(16).toUpperCase().padStart(width, '0')
const left = (v: number | string, width: number): string => String(v).padEnd(width)
const right = (v: number | string, width: number): string => String(v).padStart(width)

/** A 32-bit word as Linux prints it: the bytes of network order read as a little-endian number. */
const swapped = (v: number): string =>
  hex((((v & 0xff) << 24) | ((v & 0xff00) << 8) | ((v >>> 8) & 0xff00) | (v >>> 24)) >>> 0, 8)

function address(addr: number, port: number, v6: boolean): string {
  let text: string
  if (!v6) text = swapped(Math.max(0, addr))
  else if (!isV6(addr)) text = `0000000000000000FFFF0000${swapped(addr)}`
  else text = addr === V6_LOOPBACK ? '00000000000000000000000001000000' : '0'.repeat(32)
  return `${text}:${hex(port, 4)}`
}

const V6_GAP = ' '.repeat(25)
const TCP_HEADING = '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode'
const TCP6_HEADING = `  sl  local_address${V6_GAP}rem_address${V6_GAP}  st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode`

interface Queues {
  readonly txQueue: number
  readonly rxQueue: number
}

function line(s: LoopbackSocket & Queues, n: number, width: number, state: number, v6: boolean, rest: string): string {
  const remote = s.remotePort === 0 ? s.anyAddr : s.remoteAddr
  return `${right(n, width)}: ${address(s.localAddr, s.localPort, v6)} ${address(remote, s.remotePort, v6)} ${hex(
    state,
    2,
  )} ${hex(s.listening ? 0 : s.txQueue, 8)}:${hex(s.rxQueue, 8)} 00:00000000 00000000 ${right(s.uid, 5)} ${right(0, 8)} ${
    s.ino
  } ${rest}`
}

export function tcpTable(v6: boolean): string {
  const family = v6 ? AF_INET6 : AF_INET
  let n = 0
  // IPv4 lines are padded to 149 columns.
  let out = v6 ? `${TCP6_HEADING}\n` : `${TCP_HEADING.padEnd(149)}\n`
  const sockets = [...TCP_PORTS.all()].filter((s) => s.family === family && s instanceof TcpSocket) as TcpSocket[]
  // Listeners come first.
  sockets.sort((a, b) => Number(b.state === TCP_LISTEN) - Number(a.state === TCP_LISTEN))
  for (const s of sockets) {
    if (s.state !== TCP_LISTEN && s.remotePort === 0) continue
    const text = line(s, n++, 4, s.state, v6, `1 ${NO_ADDRESS} 100 0 0 10 ${s.state === TCP_LISTEN ? 0 : -1}`)
    out += `${v6 ? text : text.padEnd(149)}\n`
  }
  return out
}

export function udpTable(v6: boolean): string {
  const family = v6 ? AF_INET6 : AF_INET
  let n = 0
  let out = v6 ? `${TCP6_HEADING} ref pointer drops\n` : `${` ${TCP_HEADING} ref pointer drops`.padEnd(127)}\n`
  for (const s of UDP_PORTS.all()) {
    if (s.family !== family || !(s instanceof UdpSocket)) continue
    const text = line(s, n++, 5, s.state, v6, `2 ${NO_ADDRESS} ${s.drops}`)
    out += `${v6 ? text : text.padEnd(127)}\n`
  }
  return out
}

export function unixTable(): string {
  let out = 'Num       RefCount Protocol Flags    Type St Inode Path\n'
  for (const s of liveSockets) {
    const connected = s.state === TCP_ESTABLISHED
    const state = s.ino !== 0 ? (connected ? 3 : 1) : connected ? 2 : 4
    const flags = s.state === TCP_LISTEN ? 0x10000 : 0
    out += `${NO_ADDRESS}: ${hex(connected ? 3 : 2, 8)} 00000000 ${hex(flags, 8)} ${hex(s.type, 4)} ${hex(
      state,
      2,
    )} ${right(s.ino, 5)}${s.address === null ? '' : ` ${nameText(s.address)}`}\n`
  }
  return out
}

/** A path without its NUL; an abstract name with '@' for each NUL. */
function nameText(a: Buffer): string {
  const text = a.toString('latin1', SUN_PATH)
  return (a[SUN_PATH] === 0 ? text : text.slice(0, -1)).replaceAll('\0', '@')
}

export function netlinkTable(): string {
  let out = 'sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n'
  for (const s of netlinkSockets()) {
    out += `${NO_ADDRESS} ${left(s.protocol, 3)} ${left(s.portid, 10)} ${hex(s.groups, 8).toLowerCase()} ${left(
      0,
      8,
    )} ${left(0, 8)} ${left(0, 5)} ${left(2, 8)} ${left(0, 8)} ${left(s.ino, 8)}\n`
  }
  return out
}

function count(type: number, family: number): number {
  let n = 0
  for (const s of type === SOCK_STREAM ? TCP_PORTS.all() : UDP_PORTS.all()) if (s.family === family) n++
  return n
}

export function sockstat(): string {
  const tcp = count(SOCK_STREAM, AF_INET)
  const udp = count(0, AF_INET)
  const all = tcp + udp + count(SOCK_STREAM, AF_INET6) + count(0, AF_INET6) + liveSockets.size
  return (
    `sockets: used ${all}\nTCP: inuse ${tcp} orphan 0 tw 0 alloc ${tcp} mem 0\nUDP: inuse ${udp} mem 0\n` +
    'UDPLITE: inuse 0\nRAW: inuse 0\nFRAG: inuse 0 memory 0\n'
  )
}
export function sockstat6(): string {
  return (
    `TCP6: inuse ${count(SOCK_STREAM, AF_INET6)}\nUDP6: inuse ${count(0, AF_INET6)}\n` +
    'UDPLITE6: inuse 0\nRAW6: inuse 0\nFRAG6: inuse 0 memory 0\n'
  )
}

export const DEV =
  'Inter-|   Receive                                                |  Transmit\n' +
  ' face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n' +
  '    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n'
export const ROUTE = `${'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT'.padEnd(127)}\n`
export const IF_INET6 = '00000000000000000000000000000001 01 80 10 80       lo\n'
export const IPV6_ROUTE =
  '00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000002 00000000 80200001       lo\n'
export const ARP = 'IP address       HW type     Flags       HW address            Mask     Device\n'
