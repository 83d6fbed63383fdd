/**
 * What TCP and UDP sockets of the loopback stack share: addresses, binding, names, options (Linux: struct inet_sock).
 *
 * A socket is in its port table exactly while `localPort` is not 0.
 */
import { EADDRNOTAVAIL, EAFNOSUPPORT, EINVAL, ENODEV, ENOPROTOOPT, ENOTCONN, EOPNOTSUPP } from '../../abi/errno.ts'
import {
  AF_INET,
  AF_INET6,
  AF_UNSPEC,
  IP_FREEBIND,
  IP_TRANSPARENT,
  IPV6_ADDRFORM,
  IPV6_V6ONLY,
  SO_BINDTODEVICE,
  SOCK_STREAM,
  SOL_IP,
  SOL_IPV6,
  SOL_TCP,
  SOL_UDP,
  SOL_UDPLITE,
  TCP_CLOSE,
} from '../../abi/socket.ts'
import type { SysRet } from '../../kernel/sysret.ts'
import type { Task } from '../../kernel/task.ts'
import { Socket } from '../socket.ts'
import {
  type Endpoint,
  isAny,
  isLocal,
  isMulticast,
  isV6,
  readEndpoint,
  V4_ANY,
  V4_LOOPBACK,
  V6_ANY,
  V6_LOOPBACK,
  V6_OTHER,
  writeEndpoint,
} from './endpoint.ts'
import { InetOptions } from './inet-options.ts'
import type { PortTable } from './ports.ts'

/** UDP_CORK, UDP_ENCAP, checksums, segmentation; UDP-Lite's coverage. */
const UDP_OPTIONS = new Set([1, 10, 11, 100, 101, 102, 103, 104])

export const EP: Endpoint = { addr: 0, port: 0 }

export abstract class LoopbackSocket extends Socket {
  /** TCP_*, for UDP TCP_CLOSE or TCP_ESTABLISHED (connected). */
  state = TCP_CLOSE
  localAddr: number
  localPort = 0
  remoteAddr: number
  remotePort = 0
  v6only = false
  /** RCV_SHUTDOWN | SEND_SHUTDOWN. */
  shut = 0
  readonly uid: number
  readonly options: InetOptions
  protected readonly table: PortTable
  /** The port of a connection that was reset: free for others, still shown by getsockname(2). */
  protected lastPort = 0
  /** Bound by the guest: stays bound when a connection ends. */
  protected userBound = false

  constructor(family: number, type: number, protocol: number, nonblock: boolean, uid: number, table: PortTable) {
    super(family, type, protocol, nonblock)
    this.uid = uid
    this.options = new InetOptions(type === SOCK_STREAM)
    this.table = table
    this.localAddr = family === AF_INET ? V4_ANY : V6_ANY
    this.remoteAddr = this.localAddr
  }

  get anyAddr(): number {
    return this.family === AF_INET ? V4_ANY : V6_ANY
  }

  override bind(t: Task, addr: Buffer, len: number): SysRet {
    const given = len >= 2 ? addr.readUInt16LE(0) : 0
    if (this.family === AF_INET6 && given !== AF_INET6) return len < 24 ? -EINVAL : -EAFNOSUPPORT
    const bad = readEndpoint(this.family, addr, len, EP)
    if (bad !== 0) return bad
    // Linux takes AF_UNSPEC with the wildcard address for AF_INET.
    if (this.family === AF_INET && given === AF_UNSPEC && EP.addr !== V4_ANY) return -EAFNOSUPPORT
    if (this.family === AF_INET6 && !isV6(EP.addr) && this.v6only) return -EINVAL
    if (!this.mayBind(EP.addr)) return -EADDRNOTAVAIL
    if (this.state !== TCP_CLOSE || this.localPort !== 0) return -EINVAL
    const err = this.table.bind(t, this, EP.addr, EP.port)
    if (err === 0) this.userBound = true
    return err
  }

  private mayBind(addr: number): boolean {
    if (isAny(addr) || isLocal(addr) || isMulticast(addr) || addr === 0xffffffff) return true
    return this.options.get(SOL_IP, IP_FREEBIND) !== 0 || this.options.get(SOL_IP, IP_TRANSPARENT) !== 0
  }

  /** Gives an unbound socket an ephemeral port. 0 or −errno. */
  protected autobind(t: Task, addr: number): number {
    return this.localPort !== 0 ? 0 : this.table.bind(t, this, addr, 0)
  }
  protected enterTable(): void {
    this.table.add(this)
  }
  protected leaveTable(): void {
    if (this.localPort === 0) return
    this.table.remove(this)
    this.lastPort = this.localPort
    this.localPort = 0
  }

  /** Where a packet to `addr` goes: the wildcard means this host. −1 − errno is not used: null = unreachable. */
  protected route(addr: number): number | null {
    if (addr === V4_ANY) return V4_LOOPBACK
    if (addr === V6_ANY) return V6_LOOPBACK
    return isLocal(addr) && addr !== V6_OTHER ? addr : null
  }
  /** The source address for a packet to `addr` from an unbound socket. */
  protected sourceFor(addr: number): number {
    return isV6(addr) ? V6_LOOPBACK : V4_LOOPBACK
  }

  protected get peerKnown(): boolean {
    return this.remotePort !== 0
  }
  override getname(peer: boolean, out: Buffer): number {
    if (peer) {
      return this.peerKnown ? writeEndpoint(this.family, this.remoteAddr, this.remotePort, out) : -ENOTCONN
    }
    const port = this.localPort !== 0 || this.state !== TCP_CLOSE ? this.localPort : this.lastPort
    return writeEndpoint(this.family, this.localAddr, port, out)
  }

  override setSocketOption(_t: Task, name: number, val: Buffer, len: number): SysRet | undefined {
    if (name !== SO_BINDTODEVICE) return undefined
    const end = val.indexOf(0)
    const device = val.toString('latin1', 0, Math.min(end < 0 ? len : end, len, 15))
    return device === '' || device === 'lo' ? 0 : -ENODEV
  }

  override setsockopt(t: Task, level: number, name: number, val: Buffer, len: number): SysRet {
    if (level === SOL_IP) return this.options.setIp(t, name, val, len)
    if (level === SOL_IPV6) {
      if (this.family !== AF_INET6) return -ENOPROTOOPT
      if (name === IPV6_V6ONLY) {
        if (len < 4 || this.localPort !== 0) return -EINVAL
        this.v6only = val.readInt32LE(0) !== 0
        return 0
      }
      if (name === IPV6_ADDRFORM) return -ENOTCONN
      return this.options.setIpv6(name, val, len)
    }
    if (level === SOL_TCP && this.type === SOCK_STREAM) return this.options.setTcp(name, val, len)
    if (this.type !== SOCK_STREAM && (level === SOL_UDP || level === SOL_UDPLITE)) {
      if (len < 4) return -EINVAL
      if (!UDP_OPTIONS.has(name)) return -ENOPROTOOPT
      this.setFlag(0x2000 + name, val.readInt32LE(0))
      return 0
    }
    return -ENOPROTOOPT
  }

  override getsockopt(_t: Task, level: number, name: number, out: Buffer, len: number): SysRet {
    if (level === SOL_IP) return this.options.getIp(name, out, len)
    if (level === SOL_IPV6) {
      if (this.family !== AF_INET6) return -EOPNOTSUPP
      if (name === IPV6_V6ONLY) {
        out.writeInt32LE(this.v6only ? 1 : 0, 0)
        return 4
      }
      return this.options.getIpv6(name, out)
    }
    if (level === SOL_TCP && this.type === SOCK_STREAM) return this.options.getTcp(name, out)
    if (this.type !== SOCK_STREAM && (level === SOL_UDP || level === SOL_UDPLITE)) {
      if (!UDP_OPTIONS.has(name)) return -ENOPROTOOPT
      out.writeInt32LE(this.flag(0x2000 + name), 0)
      return 4
    }
    return this.family === AF_INET ? -EOPNOTSUPP : -ENOPROTOOPT
  }
}
