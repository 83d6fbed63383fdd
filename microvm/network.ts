/**
 * The container's network namespace, carried into the VM: this process stands in that namespace, where Docker's or CNI's
 * hooks put interfaces with addresses and routes. A tap beside each gets all of its frames by tc (and the other way round),
 * a card of the VM has its MAC address, and the agent gives it the same name, addresses and routes inside. As Kata's
 * `tcfilter`.
 *
 * The namespace's own addresses stay, but the host kernel sees no frame that could match them. The host's own namespace is
 * never touched. Left out: routes over several next hops or of other tables, gateways of the other family.
 */
import { existsSync, readlinkSync } from 'node:fs'
import { close, ioctl, openat } from '../native/host.ts'
import { runProcess } from '../native/spawn.ts'
import { type Interface, interfaces } from './network-config.ts'
import { CARDS } from './vmm.ts'
import type { Encodable } from './wire.ts'

const AT_FDCWD = -100
const O_RDWR_NONBLOCK_CLOEXEC = 0o2004002
const TUNSETIFF = 0x400454ca
const IFF_TAP_NO_PI = 0x1002

const tapName = (card: number) => `tss-tap${card}`

function standsInHostNamespace(): boolean {
  try {
    return readlinkSync('/proc/self/ns/net') === readlinkSync('/proc/1/ns/net')
  } catch {
    return false
  }
}

/** Open taps of the namespace that we are in, one for each card. Throws an Error that says why not. */
export function openTaps(): number[] {
  if (standsInHostNamespace()) throw new Error('the interfaces of the host cannot be given to a virtual machine')
  const fds: number[] = []
  try {
    for (let card = 0; card < CARDS; card++) {
      const fd = openat(AT_FDCWD, '/dev/net/tun', O_RDWR_NONBLOCK_CLOEXEC, 0)
      if (fd < 0) throw new Error(`cannot make a tap device: errno ${-fd}`)
      fds.push(fd)
      const request = Buffer.alloc(40)
      request.write(tapName(card), 'latin1')
      request.writeUInt16LE(IFF_TAP_NO_PI, 16)
      const r = ioctl(fd, TUNSETIFF, request)
      if (r < 0) throw new Error(`cannot make a tap device: errno ${-r}`)
    }
  } catch (error) {
    for (const fd of fds) close(fd)
    throw error
  }
  return fds
}

const TOOL_MS = 30_000

/** Runs ip or tc: its output. Throws an Error with what it says. */
function tool(command: string, args: readonly string[], input = ''): string {
  const path = ['/usr/sbin', '/usr/bin', '/sbin', '/bin']
    .map((dir) => `${dir}/${command}`)
    .find((file) => existsSync(file))
  if (!path) throw new Error(`${command} is needed (Debian: iproute2)`)
  const { status, output, error } = runProcess([path, ...args], TOOL_MS, input)
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${error.trim() || `it ended with ${status}`}`)
  return output
}

/** Every protocol, one way. */
const redirect = (from: string, to: string): string =>
  `qdisc add dev ${from} ingress\n` +
  `filter add dev ${from} parent ffff: protocol all u32 match u32 0 0 action mirred egress redirect dev ${to}\n`

/** Names come from whoever has made the namespace and go into lines for tc. */
const isPlain = ({ name }: Interface) => /^[\w.@-]{1,15}$/.test(name)

/**
 * Joins the namespace's interfaces with the taps. What the agent is to be told (network.c). Without an interface there is
 * nothing to join. Throws an Error that says why not.
 */
export function joinInterfaces(): Encodable {
  const found = interfaces(
    tool('ip', ['-j', 'addr', 'show', 'up']),
    tool('ip', ['-j', '-4', 'route', 'show', 'table', 'main']),
    tool('ip', ['-j', '-6', 'route', 'show', 'table', 'main']),
    tapName(0).slice(0, -1),
  )
  if (found.length > CARDS)
    throw new Error(`the network namespace has ${found.length} interfaces, a virtual machine ${CARDS}`)
  const odd = found.find((i) => !isPlain(i))
  if (odd) throw new Error(`the interface ${odd.name} cannot be joined: its name is not made of letters and digits`)
  if (found.length === 0) return []
  const links = found.map(({ mtu }, card) => `link set ${tapName(card)} mtu ${mtu} up\n`)
  tool('ip', ['-batch', '-'], links.join(''))
  const joints = found.map(({ name }, card) => redirect(name, tapName(card)) + redirect(tapName(card), name))
  tool('tc', ['-batch', '-'], joints.join(''))
  return found.map(({ name, mac, mtu, addresses, routes }, card) => [
    card,
    name,
    mac,
    mtu,
    addresses.map((a) => [a.address, a.prefix]),
    routes.map((r) => [r.to.address, r.to.prefix, r.gateway, r.source, r.metric, r.onlink]),
  ])
}
