/**
 * The ioctls on network interfaces that every socket answers (netdevice(7)): SIOCGIFCONF and its family.
 *
 * With network `none` there is only `lo`; with `host` reads are answered by the host's namespace, and changes are refused.
 */

import { hostData, hostInterfaceList, hostOption, hostSocket, hostSocketIoctl } from '../../native/host-socket.ts'
import { EFAULT, EINVAL, ENODEV, EOPNOTSUPP, EPERM } from '../abi/errno.ts'
import { AF_INET, SOCK_DGRAM } from '../abi/socket.ts'
import { CAP_NET_ADMIN } from '../kernel/credentials.ts'
import type { SysRet } from '../kernel/sysret.ts'
import type { Task } from '../kernel/task.ts'
import { network } from './network.ts'

const IFREQ = 40
const SIOCGIFNAME = 0x8910
const SIOCGIFCONF = 0x8912
const SIOCGIFFLAGS = 0x8913
const SIOCSIFFLAGS = 0x8914
const SIOCGIFADDR = 0x8915
const SIOCSIFADDR = 0x8916
const SIOCGIFDSTADDR = 0x8917
const SIOCGIFBRDADDR = 0x8919
const SIOCGIFNETMASK = 0x891b
const SIOCGIFMETRIC = 0x891d
const SIOCGIFMTU = 0x8921
const SIOCGIFHWADDR = 0x8927
const SIOCGIFINDEX = 0x8933
const SIOCGIFTXQLEN = 0x8942
const SIOCETHTOOL = 0x8946
const SIOCGIFMAP = 0x8970
/** Everything between is an interface ioctl; wireless extensions from 0x8b00. */
const FIRST = 0x8910
const LAST = 0x89ff
const WIRELESS_FIRST = 0x8b00
const WIRELESS_LAST = 0x8bff

const READS = new Set([
  SIOCGIFNAME,
  SIOCGIFFLAGS,
  SIOCGIFADDR,
  SIOCGIFDSTADDR,
  SIOCGIFBRDADDR,
  SIOCGIFNETMASK,
  SIOCGIFMETRIC,
  SIOCGIFMTU,
  SIOCGIFHWADDR,
  SIOCGIFINDEX,
  SIOCGIFTXQLEN,
  SIOCGIFMAP,
])

export const LO_INDEX = 1
/** IFF_UP | IFF_LOOPBACK | IFF_RUNNING. */
export const LO_FLAGS = 0x49
export const LO_MTU = 65536
export const ARPHRD_LOOPBACK = 772
const REQUEST = Buffer.alloc(IFREQ)
const CONF = Buffer.alloc(16)

let probe = -1
/** A host socket only for questions. */
function probeFd(): number {
  if (probe < 0) probe = hostSocket(AF_INET, SOCK_DGRAM, 0)
  return probe
}

/** The answer, or undefined: not an interface ioctl. */
export function interfaceIoctl(t: Task, cmd: number, arg: number): SysRet | undefined {
  if (cmd >= WIRELESS_FIRST && cmd <= WIRELESS_LAST) return -EOPNOTSUPP
  if (cmd < FIRST || cmd > LAST) return undefined
  if (cmd === SIOCGIFCONF) return interfaceList(t, arg)
  if (t.readBytes(arg, REQUEST) < 0) return -EFAULT
  const ret = READS.has(cmd) ? (network.mode === 'host' ? askHost(cmd) : askLoopback(cmd)) : change(t, cmd)
  if (ret < 0) return ret
  return READS.has(cmd) ? t.writeBytes(arg, REQUEST) : ret
}

function change(t: Task, cmd: number): SysRet {
  if (cmd === SIOCETHTOOL) return -EOPNOTSUPP
  if (!t.creds.capable(CAP_NET_ADMIN)) return -EPERM
  // `ip link set lo up` and its like: it is up.
  const isLo = REQUEST.toString('latin1', 0, 3) === 'lo\0'
  if (network.mode === 'none' && isLo && (cmd === SIOCSIFFLAGS || cmd === SIOCSIFADDR)) return 0
  return cmd === SIOCSIFFLAGS || cmd === SIOCSIFADDR ? -EPERM : -EINVAL
}

function askHost(cmd: number): SysRet {
  REQUEST.copy(hostOption)
  const ret = hostSocketIoctl(probeFd(), cmd)
  if (ret >= 0) hostOption.copy(REQUEST, 0, 0, IFREQ)
  return ret
}

const putV4 = (at: number, addr: number): void => {
  REQUEST.fill(0, at, at + 16)
  REQUEST.writeUInt16LE(AF_INET, at)
  REQUEST.writeUInt32BE(addr, at + 4)
}

function askLoopback(cmd: number): SysRet {
  if (cmd === SIOCGIFNAME) {
    if (REQUEST.readInt32LE(16) !== LO_INDEX) return -ENODEV
    REQUEST.fill(0, 0, 16)
    REQUEST.write('lo', 0, 'latin1')
    return 0
  }
  const end = REQUEST.indexOf(0)
  if (REQUEST.toString('latin1', 0, end < 0 || end > 15 ? 15 : end) !== 'lo') return -ENODEV
  switch (cmd) {
    case SIOCGIFFLAGS:
      REQUEST.writeInt16LE(LO_FLAGS, 16)
      return 0
    case SIOCGIFADDR:
    case SIOCGIFDSTADDR:
      putV4(16, 0x7f000001)
      return 0
    case SIOCGIFBRDADDR:
      putV4(16, 0)
      return 0
    case SIOCGIFNETMASK:
      putV4(16, 0xff000000)
      return 0
    case SIOCGIFMETRIC:
      REQUEST.writeInt32LE(0, 16)
      return 0
    case SIOCGIFMTU:
      REQUEST.writeInt32LE(LO_MTU, 16)
      return 0
    case SIOCGIFHWADDR:
      REQUEST.fill(0, 16, 32)
      REQUEST.writeUInt16LE(ARPHRD_LOOPBACK, 16)
      return 0
    case SIOCGIFINDEX:
      REQUEST.writeInt32LE(LO_INDEX, 16)
      return 0
    case SIOCGIFTXQLEN:
      REQUEST.writeInt32LE(1000, 16)
      return 0
    default:
      REQUEST.fill(0, 16)
      return 0
  }
}

/** SIOCGIFCONF: struct ifreq of each interface with an IPv4 address. */
function interfaceList(t: Task, arg: number): SysRet {
  if (t.readBytes(arg, CONF) < 0) return -EFAULT
  const room = CONF.readInt32LE(0)
  const to = CONF.readUInt32LE(8) + CONF.readUInt32LE(12) * 0x1_0000_0000
  let list: Buffer
  if (network.mode === 'host') {
    const n = hostInterfaceList(probeFd(), SIOCGIFCONF)
    if (n < 0) return n
    list = hostData.subarray(0, n)
  } else {
    REQUEST.fill(0)
    REQUEST.write('lo', 0, 'latin1')
    putV4(16, 0x7f000001)
    list = REQUEST
  }
  let n = list.length
  if (to !== 0) {
    if (room < 0) return -EINVAL
    n = Math.min(n, room - (room % IFREQ))
    if (n > 0 && t.writeBytes(to, list, n) < 0) return -EFAULT
  }
  return t.writeU32(arg, n)
}
