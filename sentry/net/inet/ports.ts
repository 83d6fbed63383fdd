/**
 * Who is bound to which port (Linux: inet_hashtables, udp_table): conflicts, ephemeral ports, and the search for the
 * socket that a packet is for.
 */
import { EACCES, EADDRINUSE } from '../../abi/errno.ts'
import { SO_REUSEADDR, SO_REUSEPORT, TCP_LISTEN } from '../../abi/socket.ts'
import { CAP_NET_BIND_SERVICE } from '../../kernel/credentials.ts'
import type { Task } from '../../kernel/task.ts'
import { isAny, isV6, V6_ANY } from './endpoint.ts'
import type { LoopbackSocket } from './loopback-socket.ts'

/** net.ipv4.ip_local_port_range and ip_unprivileged_port_start. */
export const EPHEMERAL_FIRST = 32768
export const EPHEMERAL_LAST = 60999
const UNPRIVILEGED = 1024

/** Whether two local addresses can receive the same packet. */
function overlap(a: LoopbackSocket, addr: number, v6only: boolean): boolean {
  const b = a.localAddr
  if (b === addr) return true
  // The IPv6 wildcard takes IPv4 too, unless it is v6only.
  const aV4 = !isV6(b) || (b === V6_ANY && !a.v6only)
  const bV4 = !isV6(addr) || (addr === V6_ANY && !v6only)
  const aV6 = isV6(b)
  const bV6 = isV6(addr)
  if (!((aV4 && bV4) || (aV6 && bV6))) return false
  return isAny(b) || isAny(addr)
}

export class PortTable {
  private readonly byPort = new Map<number, LoopbackSocket[]>()
  private readonly stream: boolean
  private last = EPHEMERAL_FIRST + Math.floor(Math.random() * 20000)

  constructor(stream: boolean) {
    this.stream = stream
  }

  private conflicts(s: LoopbackSocket, addr: number, port: number): boolean {
    const others = this.byPort.get(port)
    if (others === undefined) return false
    const reuse = s.flag(SO_REUSEADDR) !== 0
    const reusePort = s.flag(SO_REUSEPORT) !== 0
    for (const o of others) {
      if (o === s || !overlap(o, addr, s.v6only)) continue
      if (reuse && o.flag(SO_REUSEADDR) !== 0 && !(this.stream && (o.state === TCP_LISTEN || s.state === TCP_LISTEN)))
        continue
      if (reusePort && o.flag(SO_REUSEPORT) !== 0 && o.uid === s.uid) continue
      return true
    }
    return false
  }

  /** Binds `s`; port 0 picks one. 0 or −errno. */
  bind(t: Task, s: LoopbackSocket, addr: number, port: number): number {
    if (port !== 0 && port < UNPRIVILEGED && !t.creds.capable(CAP_NET_BIND_SERVICE)) return -EACCES
    if (port !== 0 && this.conflicts(s, addr, port)) return -EADDRINUSE
    const chosen = port !== 0 ? port : this.ephemeral(s, addr)
    if (chosen < 0) return chosen
    s.localAddr = addr
    s.localPort = chosen
    this.add(s)
    return 0
  }

  /** listen(2): sockets that share a port by SO_REUSEADDR may not both listen. */
  mayListen(s: LoopbackSocket): boolean {
    return !this.conflicts(s, s.localAddr, s.localPort)
  }

  private ephemeral(s: LoopbackSocket, addr: number): number {
    const range = EPHEMERAL_LAST - EPHEMERAL_FIRST + 1
    for (let i = 0; i < range; i++) {
      this.last = this.last >= EPHEMERAL_LAST ? EPHEMERAL_FIRST : this.last + 1
      const others = this.byPort.get(this.last)
      if (others === undefined || !this.conflicts(s, addr, this.last)) return this.last
    }
    return -EADDRINUSE
  }

  add(s: LoopbackSocket): void {
    const list = this.byPort.get(s.localPort)
    if (list === undefined) this.byPort.set(s.localPort, [s])
    else list.push(s)
  }

  remove(s: LoopbackSocket): void {
    const list = this.byPort.get(s.localPort)
    if (list === undefined) return
    const i = list.indexOf(s)
    if (i >= 0) list.splice(i, 1)
    if (list.length === 0) this.byPort.delete(s.localPort)
  }

  /**
   * The best receiver for a packet to (addr, port) from (fromAddr, fromPort): connected, then exact, then wildcard; the
   * newest of equals. `listening` searches TCP listeners.
   */
  find(addr: number, port: number, fromAddr: number, fromPort: number, listening: boolean): LoopbackSocket | null {
    const list = this.byPort.get(port)
    if (list === undefined) return null
    let best: LoopbackSocket | null = null
    let bestScore = -1
    for (const s of list) {
      if (listening !== (s.state === TCP_LISTEN)) continue
      let score = 0
      if (s.localAddr === addr) score = 2
      else if (!isAny(s.localAddr)) continue
      else if (s.localAddr === V6_ANY ? !isV6(addr) && s.v6only : isV6(addr)) continue
      else if (isV6(s.localAddr) === isV6(addr)) score = 1
      if (s.remotePort !== 0) {
        if (s.remotePort !== fromPort || s.remoteAddr !== fromAddr) continue
        score += 4
      }
      if (score >= bestScore) {
        best = s
        bestScore = score
      }
    }
    return best
  }

  *all(): Generator<LoopbackSocket> {
    for (const list of this.byPort.values()) yield* list
  }
}

export const TCP_PORTS = new PortTable(true)
export const UDP_PORTS = new PortTable(false)
export const UDPLITE_PORTS = new PortTable(false)
