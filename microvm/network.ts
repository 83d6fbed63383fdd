/**
 * The container's network namespace, carried into the VM: this process stands in that namespace, where Docker's or CNI's
 * hooks put an interface with addresses and routes. A tap beside it gets all of its frames by tc (and the other way round),
 * the VM's card has its MAC address, and the agent sets the same addresses and routes inside. As Kata's `tcfilter`.
 *
 * IPv4 and one interface; the namespace's own addresses stay, but the host kernel sees no frame that could match them.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { close, ioctl, openat } from '../native/host.ts'
import { socket } from '../native/unix-socket.ts'
import type { Encodable } from './wire.ts'

const TAP = 'tss-tap0'
const AT_FDCWD = -100
const O_RDWR_NONBLOCK_CLOEXEC = 0o2004002
const TUNSETIFF = 0x400454ca
const IFF_TAP_NO_PI = 0x1002
const SIOCGIFMTU = 0x8921
const AF_INET = 2
const SOCK_DGRAM = 2
const MAX_ADDRESSES = 16
const MAX_ROUTES = 64

/** An open tap of the namespace that we are in; −errno. */
export function openTap(): number {
  const fd = openat(AT_FDCWD, '/dev/net/tun', O_RDWR_NONBLOCK_CLOEXEC, 0)
  if (fd < 0) return fd
  const request = Buffer.alloc(40)
  request.write(TAP, 'latin1')
  request.writeUInt16LE(IFF_TAP_NO_PI, 16)
  const r = ioctl(fd, TUNSETIFF, request)
  if (r < 0) close(fd)
  return r < 0 ? r : fd
}

function mtuOf(name: string): number {
  const fd = socket(AF_INET, SOCK_DGRAM, 0)
  const request = Buffer.alloc(40)
  request.write(name, 'latin1')
  const r = ioctl(fd, SIOCGIFMTU, request)
  close(fd)
  return r < 0 ? 1500 : request.readInt32LE(16)
}

/** Columns of /proc/net/route are u32 in memory order, in hexadecimal. */
function dotted(hex: string): string {
  const n = Number.parseInt(hex, 16)
  return [n & 255, (n >>> 8) & 255, (n >>> 16) & 255, n >>> 24].join('.')
}

/** The routes of one interface in /proc/net/route: [destination, gateway, mask], those without a gateway first. */
export function parseRoutes(text: string, name: string): [string, string, string][] {
  return text
    .split('\n')
    .slice(1)
    .map((line) => line.split('\t'))
    .filter((f) => f[0] === name && f.length > 7)
    .map((f) => [dotted(f[1]!), dotted(f[2]!), dotted(f[7]!)] as [string, string, string])
    .sort((a, b) => Number(a[1] !== '0.0.0.0') - Number(b[1] !== '0.0.0.0'))
}

function tool(command: string, ...args: string[]): string {
  const { status, stderr, error } = spawnSync(command, args, {
    encoding: 'utf8',
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
  })
  if (error) return `${command} is needed (Debian: iproute2): ${error.message}`
  return status === 0 ? '' : `${command} ${args.join(' ')}: ${stderr.trim()}`
}

/** Both ways, every protocol. '' or what failed. */
function redirect(from: string, to: string): string {
  return (
    tool('tc', 'qdisc', 'add', 'dev', from, 'ingress') ||
    tool(
      'tc',
      ...['filter', 'add', 'dev', from, 'parent', 'ffff:', 'protocol', 'all', 'u32', 'match', 'u32', '0', '0'],
      ...['action', 'mirred', 'egress', 'redirect', 'dev', to],
    )
  )
}

/** Nothing but loopback. */
export const NO_NETWORK: readonly Encodable[] = ['', 0, [], []]

/**
 * Joins the namespace's interface with the tap. What the agent is to be told (see network.c), or an error. Without an
 * interface there is nothing to join.
 */
export function joinInterface(): readonly Encodable[] | string {
  const found = Object.entries(networkInterfaces()).find(
    ([name, list]) => name !== TAP && list?.some((a) => !a.internal),
  )
  if (!found) return NO_NETWORK
  const [name, list] = found
  const own = list!.filter((a) => a.family === 'IPv4').slice(0, MAX_ADDRESSES)
  const mac = Buffer.from(list![0]!.mac.replaceAll(':', ''), 'hex')
  const error =
    tool('ip', 'link', 'set', TAP, 'mtu', String(mtuOf(name)), 'up') || redirect(name, TAP) || redirect(TAP, name)
  if (error) return error
  const routes = parseRoutes(readFileSync('/proc/self/net/route', 'latin1'), name).slice(0, MAX_ROUTES)
  return [mac, mtuOf(name), own.map((a) => [a.address, a.netmask]), routes]
}
