/**
 * Names of AF_UNIX sockets (unix(7)): the abstract namespace, autobind, and the list behind /proc/net/unix.
 *
 * Names in the file system are inodes whose `special` is the bound socket; see path-names.ts. An address is the whole
 * sockaddr_un as getsockname(2) shows it, family included.
 */
import { EADDRINUSE, ENOSPC } from '../../abi/errno.ts'
import { AF_UNIX } from '../../abi/socket.ts'
import type { UnixSocket } from './unix-socket.ts'

/** offsetof(struct sockaddr_un, sun_path), and the size of all of it. */
export const SUN_PATH = 2
export const SUN_SIZE = 110

const abstractNames = new Map<string, UnixSocket>()
const sockets = new Set<UnixSocket>()
let lastAutobind = 0

export const liveSockets: ReadonlySet<UnixSocket> = sockets
export const addSocket = (s: UnixSocket): void => {
  sockets.add(s)
}
export const removeSocket = (s: UnixSocket): void => {
  sockets.delete(s)
}

/** Each type of socket has its own names. One char per byte, the leading NUL included. */
const keyOf = (type: number, addr: Buffer, len: number): string => type + addr.toString('latin1', SUN_PATH, len)

export function findAbstract(type: number, addr: Buffer, len: number): UnixSocket | undefined {
  return abstractNames.get(keyOf(type, addr, len))
}

export function bindAbstract(s: UnixSocket, addr: Buffer, len: number): number {
  const key = keyOf(s.type, addr, len)
  if (abstractNames.has(key)) return -EADDRINUSE
  abstractNames.set(key, s)
  s.address = Buffer.from(addr.subarray(0, len))
  return 0
}

/** Gives an unnamed socket a five-digit hexadecimal abstract name. */
export function autobind(s: UnixSocket): number {
  if (s.address !== null) return 0
  for (let tries = 0; tries <= 0xfffff; tries++) {
    lastAutobind = (lastAutobind + 1) & 0xfffff
    const name = `\0${lastAutobind.toString(16).padStart(5, '0')}`
    if (abstractNames.has(s.type + name)) continue
    const addr = Buffer.alloc(SUN_PATH + name.length)
    addr.writeUInt16LE(AF_UNIX, 0)
    addr.write(name, SUN_PATH, 'latin1')
    abstractNames.set(s.type + name, s)
    s.address = addr
    return 0
  }
  return -ENOSPC
}

/** The socket is closed: its abstract name is free again. */
export function releaseName(s: UnixSocket): void {
  const addr = s.address
  if (addr === null || addr.length <= SUN_PATH || addr[SUN_PATH] !== 0) return
  const key = keyOf(s.type, addr, addr.length)
  if (abstractNames.get(key) === s) abstractNames.delete(key)
}

/** The pathname in a sockaddr_un: up to the first NUL or the end. */
export function pathOf(addr: Buffer, len: number): string {
  const end = addr.indexOf(0, SUN_PATH)
  return addr.toString('latin1', SUN_PATH, end < 0 || end > len ? len : end)
}
