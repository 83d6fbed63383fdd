/** What `ip -j` tells about a network namespace, as much of it as a VM's cards get. Pure. */

const MAX_ADDRESSES = 16
const MAX_ROUTES = 64
const NOTHING = Buffer.alloc(0)

export interface Network {
  /** 4 or 16 bytes. */
  address: Buffer
  prefix: number
}

export interface Route {
  to: Network
  /** Empty: on the link. */
  gateway: Buffer
  /** Preferred source address; empty: none. */
  source: Buffer
  metric: number
  /** The gateway is reached by the link whatever the addresses say. */
  onlink: boolean
}

export interface Interface {
  name: string
  mac: Buffer
  mtu: number
  addresses: Network[]
  routes: Route[]
}

interface IpAddress {
  family: string
  local: string
  prefixlen: number
  scope: string
}
interface IpLink {
  ifname: string
  link_type: string
  master?: string
  mtu: number
  address: string
  addr_info: IpAddress[]
}
interface IpRoute {
  type?: string
  dst: string
  dev?: string
  gateway?: string
  protocol?: string
  prefsrc?: string
  metric?: number
  flags: string[]
}

/** An address as written to bytes; empty: it is none. */
export function addressBytes(text: string): Buffer {
  if (!text.includes(':')) {
    const parts = text.split('.').map(Number)
    const isOne = parts.length === 4 && parts.every((n) => Number.isInteger(n) && n >= 0 && n <= 255)
    return isOne ? Buffer.from(parts) : NOTHING
  }
  // The last 32 bits may be written as an IPv4 address.
  const plain = text.replace(/[\d.]+\.[\d.]+$/, (v4) => {
    const b = addressBytes(v4)
    return b.length ? `${b.readUInt16BE(0).toString(16)}:${b.readUInt16BE(2).toString(16)}` : '!'
  })
  const [head, tail, more] = plain.split('::').map((half) => (half ? half.split(':') : []))
  const words = tail
    ? [...head!, ...Array<string>(Math.max(0, 8 - head!.length - tail.length)).fill('0'), ...tail]
    : head!
  if (more || words.length !== 8 || !words.every((w) => /^[0-9a-f]{1,4}$/i.test(w))) return NOTHING
  const out = Buffer.alloc(16)
  words.forEach((w, i) => {
    out.writeUInt16BE(Number.parseInt(w, 16), 2 * i)
  })
  return out
}

function network(dst: string, family: 4 | 6): Network | null {
  const size = family === 4 ? 4 : 16
  if (dst === 'default') return { address: Buffer.alloc(size), prefix: 0 }
  const [text, prefix] = dst.split('/')
  const address = addressBytes(text!)
  return address.length === size ? { address, prefix: prefix === undefined ? 8 * size : Number(prefix) } : null
}

function routesOf(list: readonly IpRoute[], name: string, family: 4 | 6): Route[] {
  const out: Route[] = []
  for (const r of list) {
    // The kernel's own come with the addresses.
    if (r.dev !== name || r.protocol === 'kernel' || (r.type ?? 'unicast') !== 'unicast') continue
    const to = network(r.dst, family)
    const gateway = r.gateway ? addressBytes(r.gateway) : NOTHING
    if (!to || (r.gateway && gateway.length !== to.address.length)) continue
    const source = r.prefsrc ? addressBytes(r.prefsrc) : NOTHING
    out.push({ to, gateway, source, metric: r.metric ?? 0, onlink: r.flags.includes('onlink') })
  }
  return out
}

const json = <T>(text: string): T[] => (text.trim() ? JSON.parse(text) : [])

/**
 * Ethernet interfaces in their order, but for those whose name begins with `own` and ports of a bridge. Routes that need no
 * gateway come first, since gateways are reached by them.
 */
export function interfaces(addr: string, routes4: string, routes6: string, own: string): Interface[] {
  const v4 = json<IpRoute>(routes4)
  const v6 = json<IpRoute>(routes6)
  return json<IpLink>(addr)
    .filter((l) => l.link_type === 'ether' && !l.master && !l.ifname?.startsWith(own))
    .map((l) => {
      const addresses: Network[] = []
      for (const a of l.addr_info) {
        // Those of a link are made of the card's address, by the guest's kernel too.
        if (a.family === 'inet6' && a.scope === 'link') continue
        const address = addressBytes(a.local)
        if (address.length) addresses.push({ address, prefix: a.prefixlen })
      }
      const routes = [...routesOf(v4, l.ifname, 4), ...routesOf(v6, l.ifname, 6)].sort(
        (a, b) => Number(a.gateway.length > 0) - Number(b.gateway.length > 0),
      )
      return {
        name: l.ifname,
        mac: Buffer.from(l.address.replaceAll(':', ''), 'hex'),
        mtu: l.mtu,
        addresses: addresses.slice(0, MAX_ADDRESSES),
        routes: routes.slice(0, MAX_ROUTES),
      }
    })
}
