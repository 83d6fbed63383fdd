/**
 * Sockets of the host, for network mode `host` (socket(7)). Each call returns ≥ 0 or −errno and never waits: every
 * socket is non-blocking.
 *
 * Data, addresses and ancillary data pass through the static buffers here: fill or read them right around the call.
 */

import { raw } from './host.ts'
import { HostMemory } from './host-files.ts'

const { L } = raw
const SOCK_NONBLOCK_CLOEXEC = 0o2004000
const MSG_NOSIGNAL = 0x4000
const MSG_DONTWAIT = 0x40
const MSG_CMSG_CLOEXEC = 0x40000000

/** Largest transfer in one call. */
export const HOST_DATA_MAX = 256 * 1024
const NAME_MAX = 128
export const HOST_CONTROL_MAX = 16 * 1024

/* One block: struct msghdr, struct iovec, a length word, address, option, ancillary data. */
const IOV = 64
const LENGTH = 96
const NAME = 128
const OPTION = 512
const OPTION_MAX = 4096
const CONTROL = OPTION + OPTION_MAX
const block = new HostMemory(CONTROL + HOST_CONTROL_MAX)
const bulk = new HostMemory(HOST_DATA_MAX)

/** Data of sends and receives. */
export const hostData: Buffer = bulk.bytes
export const hostName: Buffer = block.bytes.subarray(NAME, NAME + NAME_MAX)
export const hostOption: Buffer = block.bytes.subarray(OPTION, OPTION + OPTION_MAX)
export const hostControl: Buffer = block.bytes.subarray(CONTROL, CONTROL + HOST_CONTROL_MAX)

/** Results of the last {@link hostRecv} and of address calls. */
export const hostResult = { nameLen: 0, controlLen: 0, flags: 0 }

const putAddress = (at: number, value: number): void => {
  block.view.setUint32(at, value >>> 0, true)
  block.view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true)
}

function header(nameLen: number, dataLen: number, controlLen: number): void {
  putAddress(0, nameLen > 0 ? block.at(NAME) : 0)
  block.view.setUint32(8, nameLen, true)
  putAddress(16, block.at(IOV))
  putAddress(24, 1)
  putAddress(32, controlLen > 0 ? block.at(CONTROL) : 0)
  putAddress(40, controlLen)
  putAddress(48, 0)
  putAddress(IOV, bulk.at(0))
  putAddress(IOV + 8, dataLen)
}

export const hostSocket = (family: number, type: number, protocol: number): number =>
  L(41, family, type | SOCK_NONBLOCK_CLOEXEC, protocol, 0, 0, 0)
/** Addresses of bind and connect lie in {@link hostName}. */
export const hostBind = (fd: number, len: number): number => L(49, fd, block.at(NAME), len, 0, 0, 0)
export const hostConnect = (fd: number, len: number): number => L(42, fd, block.at(NAME), len, 0, 0, 0)
export const hostListen = (fd: number, backlog: number): number => L(50, fd, backlog, 0, 0, 0, 0)
export const hostAccept = (fd: number): number => L(288, fd, 0, 0, SOCK_NONBLOCK_CLOEXEC, 0, 0)
export const hostShutdown = (fd: number, how: number): number => L(48, fd, how, 0, 0, 0, 0)

/** getsockname(2) or getpeername(2) into {@link hostName}; the length of the address. */
export function hostGetname(fd: number, peer: boolean): number {
  block.view.setUint32(LENGTH, NAME_MAX, true)
  const ret = L(peer ? 52 : 51, fd, block.at(NAME), block.at(LENGTH), 0, 0, 0)
  return ret < 0 ? ret : block.view.getUint32(LENGTH, true)
}

/** sendmsg(2) of the first bytes of {@link hostData}, {@link hostName} and {@link hostControl}. */
export function hostSend(fd: number, len: number, nameLen: number, controlLen: number, flags: number): number {
  header(nameLen, len, controlLen)
  return L(46, fd, block.at(0), flags | MSG_NOSIGNAL | MSG_DONTWAIT, 0, 0, 0)
}

/** recvmsg(2) into the static buffers; the rest is in {@link hostResult}. */
export function hostRecv(fd: number, len: number, wantName: boolean, controlLen: number, flags: number): number {
  header(wantName ? NAME_MAX : 0, len, controlLen)
  const n = L(47, fd, block.at(0), flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC, 0, 0, 0)
  if (n < 0) return n
  hostResult.nameLen = wantName ? block.view.getUint32(8, true) : 0
  hostResult.controlLen = block.view.getUint32(40, true)
  hostResult.flags = block.view.getUint32(48, true) & ~MSG_CMSG_CLOEXEC
  return n
}

/** The value lies in {@link hostOption}. */
export const hostSetsockopt = (fd: number, level: number, name: number, len: number): number =>
  L(54, fd, level, name, block.at(OPTION), Math.min(len, OPTION_MAX), 0)
/** Into {@link hostOption}; the length of the value. */
export function hostGetsockopt(fd: number, level: number, name: number, len: number): number {
  block.view.setUint32(LENGTH, Math.min(len, OPTION_MAX), true)
  const ret = L(55, fd, level, name, block.at(OPTION), block.at(LENGTH), 0)
  return ret < 0 ? ret : block.view.getUint32(LENGTH, true)
}

/** SIOCGIFCONF into {@link hostData}; the length. */
export function hostInterfaceList(fd: number, request: number): number {
  block.view.setUint32(OPTION, HOST_DATA_MAX, true)
  putAddress(OPTION + 8, bulk.at(0))
  const ret = L(16, fd, request, block.at(OPTION), 0, 0, 0)
  return ret < 0 ? ret : block.view.getUint32(OPTION, true)
}
/** An ioctl whose argument is the start of {@link hostOption}. */
export const hostSocketIoctl = (fd: number, request: number): number => L(16, fd, request, block.at(OPTION), 0, 0, 0)
