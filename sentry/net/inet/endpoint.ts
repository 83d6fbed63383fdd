/**
 * Internet addresses and ports as the loopback stack uses them.
 *
 * An address is one number: an IPv4 address as u32, or one of the few IPv6 addresses that can matter where only the
 * loopback interface exists. A v4-mapped IPv6 address is its IPv4 address.
 */
import { EAFNOSUPPORT, EINVAL } from '../../abi/errno.ts'
import { AF_INET, AF_INET6, AF_UNSPEC } from '../../abi/socket.ts'

export const V4_ANY = 0
export const V4_LOOPBACK = 0x7f000001
export const V6_ANY = -1
export const V6_LOOPBACK = -2
/** Any other IPv6 address: never local. */
export const V6_OTHER = -3

export const SOCKADDR_IN = 16
export const SOCKADDR_IN6 = 28
/** struct sockaddr_in6 without the scope id, which Linux accepts (SIN6_LEN_RFC2133). */
const SOCKADDR_IN6_MIN = 24

export interface Endpoint {
  addr: number
  port: number
}

export const isV6 = (addr: number): boolean => addr < 0
export const isAny = (addr: number): boolean => addr === V4_ANY || addr === V6_ANY
export const isLoopback = (addr: number): boolean => addr >>> 24 === 127 && addr >= 0
export const isLocal = (addr: number): boolean => isLoopback(addr) || addr === V6_LOOPBACK
export const isMulticast = (addr: number): boolean => addr >= 0xe0000000 && addr < 0xf0000000

function readV6(b: Buffer, at: number): number {
  let zeros = 0
  while (zeros < 16 && b[at + zeros] === 0) zeros++
  if (zeros === 16) return V6_ANY
  if (zeros === 15 && b[at + 15] === 1) return V6_LOOPBACK
  if (zeros === 10 && b[at + 10] === 0xff && b[at + 11] === 0xff) return b.readUInt32BE(at + 12)
  return V6_OTHER
}

/** Reads a sockaddr for a socket of `family` into `out`. 0 or −errno. An IPv6 socket takes IPv6 addresses only. */
export function readEndpoint(family: number, b: Buffer, len: number, out: Endpoint): number {
  if (len < 2) return -EINVAL
  const given = b.readUInt16LE(0)
  if (family === AF_INET) {
    if (len < SOCKADDR_IN) return -EINVAL
    if (given !== AF_INET && given !== AF_UNSPEC) return -EAFNOSUPPORT
    out.addr = b.readUInt32BE(4)
  } else {
    if (given === AF_INET && len >= SOCKADDR_IN) {
      out.addr = b.readUInt32BE(4)
    } else {
      if (len < SOCKADDR_IN6_MIN) return -EINVAL
      if (given !== AF_INET6) return -EAFNOSUPPORT
      out.addr = readV6(b, 8)
    }
  }
  out.port = b.readUInt16BE(2)
  return 0
}

/** Writes a sockaddr of `family`; its length. */
export function writeEndpoint(family: number, addr: number, port: number, b: Buffer): number {
  b.writeUInt16LE(family, 0)
  b.writeUInt16BE(port, 2)
  if (family === AF_INET) {
    b.writeUInt32BE(Math.max(addr, 0), 4)
    b.fill(0, 8, 16)
    return SOCKADDR_IN
  }
  b.fill(0, 4, SOCKADDR_IN6)
  writeV6(addr, b, 8)
  return SOCKADDR_IN6
}

/** The 16 bytes of an IPv6 address; IPv4 comes out v4-mapped. */
export function writeV6(addr: number, b: Buffer, at: number): void {
  b.fill(0, at, at + 16)
  if (addr >= 0) {
    b[at + 10] = 0xff
    b[at + 11] = 0xff
    b.writeUInt32BE(addr, at + 12)
  } else if (addr === V6_LOOPBACK) b[at + 15] = 1
}
