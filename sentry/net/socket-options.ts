/**
 * setsockopt(2) and getsockopt(2) at SOL_SOCKET (Linux: sk_setsockopt, sk_getsockopt in net/core/sock.c).
 *
 * Options without an effect here are checked and remembered, so that a program reads back what it set.
 */
import { EACCES, EDOM, EINVAL, ENODATA, ENODEV, ENOENT, ENOPROTOOPT, EOPNOTSUPP, EPERM } from '../abi/errno.ts'
import * as S from '../abi/socket.ts'
import { CAP_NET_ADMIN, CAP_NET_RAW } from '../kernel/credentials.ts'
import type { SysRet } from '../kernel/sysret.ts'
import { NEVER, type Task } from '../kernel/task.ts'
import type { Socket } from './socket.ts'

const INT_MAX = 0x7fffffff
const TWO32 = 0x1_0000_0000
/** 1/CONFIG_HZ of Debian's kernels. */
const TICK_NS = 4_000_000
const SOCK_SNDBUF_LOCK = 1
const SOCK_RCVBUF_LOCK = 2
const canPeekAt = (s: Socket): boolean => s.family === S.AF_UNIX || isInet(s)
const isInet = (s: Socket): boolean => s.family === S.AF_INET || s.family === S.AF_INET6

/** Kept as 0 or 1, no further checks. */
const BOOLEANS = new Set([
  S.SO_REUSEADDR,
  S.SO_DONTROUTE,
  S.SO_BROADCAST,
  S.SO_KEEPALIVE,
  S.SO_OOBINLINE,
  S.SO_NO_CHECK,
  S.SO_PASSSEC,
  S.SO_RCVMARK,
  S.SO_RXQ_OVFL,
  S.SO_WIFI_STATUS,
  S.SO_NOFCS,
  S.SO_SELECT_ERR_QUEUE,
  S.SO_PASSPIDFD,
])

/** struct timeval of a timeout option; −errno, or ns (Infinity for zero: none). */
function timeoutNs(val: Buffer, len: number): number {
  if (len < 16) return -EINVAL
  const usec = val.readInt32LE(8) + val.readInt32LE(12) * TWO32
  if (usec < 0 || usec >= 1_000_000) return -EDOM
  const sec = val.readUInt32LE(0) + val.readInt32LE(4) * TWO32
  if (sec < 0) return 0
  // Linux counts in ticks, rounded up.
  return sec === 0 && usec === 0 ? NEVER : sec * 1e9 + Math.ceil((usec * 1000) / TICK_NS) * TICK_NS
}

/** The doubled, clamped size that Linux stores. */
const bufferSize = (val: number, max: number, floor: number): number =>
  Math.max(Math.min(Math.min(val >>> 0, max), INT_MAX >> 1) * 2, floor)

export function setSocketOption(t: Task, s: Socket, name: number, val: Buffer, len: number): SysRet {
  if (name === S.SO_BINDTODEVICE) return s.setSocketOption(t, name, val, len) ?? bindToDevice(t, val, len)
  if (len < 4) return -EINVAL
  const own = s.setSocketOption(t, name, val, len)
  if (own !== undefined) return own
  const v = val.readInt32LE(0)
  if (BOOLEANS.has(name)) {
    s.setFlag(name, v !== 0 ? 1 : 0)
    return 0
  }
  switch (name) {
    case S.SO_DEBUG:
      if (v !== 0 && !t.creds.capable(CAP_NET_ADMIN)) return -EACCES
      s.setFlag(name, v !== 0 ? 1 : 0)
      return 0
    case S.SO_REUSEPORT:
      if (v !== 0 && !isInet(s)) return -EOPNOTSUPP
      s.setFlag(name, v !== 0 ? 1 : 0)
      return 0
    case S.SO_TYPE:
    case S.SO_PROTOCOL:
    case S.SO_DOMAIN:
    case S.SO_ERROR:
      return -ENOPROTOOPT
    case S.SO_SNDBUF:
    case S.SO_SNDBUFFORCE:
      if (name === S.SO_SNDBUFFORCE && !t.creds.capable(CAP_NET_ADMIN)) return -EPERM
      s.bufLock |= SOCK_SNDBUF_LOCK
      s.sndBuf =
        name === S.SO_SNDBUF
          ? bufferSize(v, S.WMEM_MAX, S.SOCK_MIN_SNDBUF)
          : bufferSize(Math.max(0, v), INT_MAX, S.SOCK_MIN_SNDBUF)
      s.buffersChanged()
      return 0
    case S.SO_RCVBUF:
    case S.SO_RCVBUFFORCE:
      if (name === S.SO_RCVBUFFORCE && !t.creds.capable(CAP_NET_ADMIN)) return -EPERM
      s.bufLock |= SOCK_RCVBUF_LOCK
      s.rcvBuf =
        name === S.SO_RCVBUF
          ? bufferSize(v, S.RMEM_MAX, S.SOCK_MIN_RCVBUF)
          : bufferSize(Math.max(0, v), INT_MAX, S.SOCK_MIN_RCVBUF)
      s.buffersChanged()
      return 0
    case S.SO_PRIORITY:
      if ((v < 0 || v > 6) && !t.creds.capable(CAP_NET_RAW) && !t.creds.capable(CAP_NET_ADMIN)) return -EPERM
      s.setFlag(name, v)
      return 0
    case S.SO_LINGER:
      if (len < 8) return -EINVAL
      s.linger = v === 0 ? -1 : Math.max(0, val.readInt32LE(4))
      return 0
    case S.SO_BSDCOMPAT:
      return 0
    case S.SO_PASSCRED:
      s.passCred = v !== 0
      return 0
    case S.SO_TIMESTAMP:
    case S.SO_TIMESTAMPNS:
    case S.SO_TIMESTAMP_NEW:
    case S.SO_TIMESTAMPNS_NEW:
      for (const o of [S.SO_TIMESTAMP, S.SO_TIMESTAMPNS, S.SO_TIMESTAMP_NEW, S.SO_TIMESTAMPNS_NEW]) s.setFlag(o, 0)
      s.setFlag(name, v !== 0 ? 1 : 0)
      return 0
    case S.SO_TIMESTAMPING:
    case S.SO_TIMESTAMPING_NEW:
      if (v & ~0xffff) return -EINVAL
      s.setFlag(name, v)
      return 0
    case S.SO_RCVLOWAT:
      s.rcvLowat = v < 0 ? INT_MAX : v === 0 ? 1 : v
      return 0
    case S.SO_RCVTIMEO:
    case S.SO_RCVTIMEO_NEW: {
      const ns = timeoutNs(val, len)
      if (ns < 0) return ns
      s.rcvTimeoNs = ns
      return 0
    }
    case S.SO_SNDTIMEO:
    case S.SO_SNDTIMEO_NEW: {
      const ns = timeoutNs(val, len)
      if (ns < 0) return ns
      s.sndTimeoNs = ns
      return 0
    }
    case S.SO_ATTACH_FILTER:
    case S.SO_ATTACH_BPF:
    case S.SO_ATTACH_REUSEPORT_CBPF:
    case S.SO_ATTACH_REUSEPORT_EBPF:
      // No packet filters here. Refusing is safe: a program that relies on a filter must not run without it.
      return -EPERM
    case S.SO_DETACH_FILTER:
      return -ENOENT
    case S.SO_LOCK_FILTER:
      if (s.flag(name) !== 0 && v === 0) return -EPERM
      s.setFlag(name, v !== 0 ? 1 : 0)
      return 0
    case S.SO_MARK:
      if (!t.creds.capable(CAP_NET_RAW) && !t.creds.capable(CAP_NET_ADMIN)) return -EPERM
      s.setFlag(name, v)
      return 0
    case S.SO_PEEK_OFF:
      if (!canPeekAt(s)) return -EOPNOTSUPP
      s.peekOff = v
      return 0
    case S.SO_BUSY_POLL:
      if (v > s.flag(name) && !t.creds.capable(CAP_NET_ADMIN)) return -EPERM
      if (v < 0) return -EINVAL
      s.setFlag(name, v)
      return 0
    case S.SO_PREFER_BUSY_POLL:
    case S.SO_BUSY_POLL_BUDGET:
      if (v > s.flag(name) && !t.creds.capable(CAP_NET_ADMIN)) return -EPERM
      if (v < 0 || v > 0xffff) return -EINVAL
      s.setFlag(name, v)
      return 0
    case S.SO_MAX_PACING_RATE:
    case S.SO_INCOMING_CPU:
      s.setFlag(name, v)
      return 0
    case S.SO_CNX_ADVICE:
      return 0
    case S.SO_ZEROCOPY:
      if (!isInet(s)) return -EOPNOTSUPP
      if (v < 0 || v > 1) return -EINVAL
      s.setFlag(name, v)
      return 0
    case S.SO_TXTIME:
      if (len !== 8) return -EINVAL
      return -EPERM
    case S.SO_BINDTOIFINDEX:
      if (v < 0) return -EINVAL
      if (v > 1) return -ENODEV
      s.setFlag(name, v)
      return 0
    case S.SO_BUF_LOCK:
      if (v & ~3) return -EINVAL
      s.bufLock = v
      return 0
    case S.SO_RESERVE_MEM:
      return v < 0 ? -EINVAL : -EOPNOTSUPP
    case S.SO_TXREHASH:
      if (v < -1 || v > 1) return -EINVAL
      s.setFlag(name, v === -1 ? 1 : v)
      return 0
    default:
      return -ENOPROTOOPT
  }
}

function bindToDevice(_t: Task, val: Buffer, len: number): SysRet {
  if (len < 0) return -EINVAL
  const end = val.indexOf(0)
  const name = val.toString('latin1', 0, Math.min(end < 0 ? len : end, len, 15))
  return name === '' || name === 'lo' ? 0 : -ENODEV
}

/** Writes the option to `out`; its whole length or −errno. */
export function getSocketOption(t: Task, s: Socket, name: number, out: Buffer, len: number): SysRet {
  const own = s.getSocketOption(t, name, out, len)
  if (own !== undefined) return own
  const int = (v: number): number => {
    out.writeInt32LE(v | 0, 0)
    return 4
  }
  if (BOOLEANS.has(name)) return int(s.flag(name))
  switch (name) {
    case S.SO_DEBUG:
    case S.SO_REUSEPORT:
    case S.SO_PRIORITY:
    case S.SO_TIMESTAMP:
    case S.SO_TIMESTAMPNS:
    case S.SO_TIMESTAMP_NEW:
    case S.SO_TIMESTAMPNS_NEW:
    case S.SO_LOCK_FILTER:
    case S.SO_MARK:
    case S.SO_BUSY_POLL:
    case S.SO_PREFER_BUSY_POLL:
    case S.SO_BUSY_POLL_BUDGET:
    case S.SO_ZEROCOPY:
    case S.SO_BINDTOIFINDEX:
    case S.SO_ACCEPTCONN:
      return int(s.flag(name))
    case S.SO_TXREHASH:
      return int(s.flagOptions?.get(name) ?? 1)
    case S.SO_TIMESTAMPING:
    case S.SO_TIMESTAMPING_NEW:
      out.writeInt32LE(s.flag(name), 0)
      out.writeInt32LE(0, 4)
      return 8
    case S.SO_INCOMING_CPU:
      return int(s.flagOptions?.get(name) ?? -1)
    case S.SO_INCOMING_NAPI_ID:
      return int(0)
    case S.SO_MAX_PACING_RATE: {
      const v = s.flagOptions?.get(name) ?? -1
      out.writeInt32LE(v, 0)
      out.writeInt32LE(v === -1 ? -1 : 0, 4)
      return len >= 8 ? 8 : 4
    }
    case S.SO_TYPE:
      return int(s.type)
    case S.SO_PROTOCOL:
      return int(s.protocol)
    case S.SO_DOMAIN:
      return int(s.family)
    case S.SO_ERROR:
      return int(-s.takeError())
    case S.SO_SNDBUF:
      return int(s.sndBuf)
    case S.SO_RCVBUF:
      return int(s.rcvBuf)
    case S.SO_BUF_LOCK:
      return int(s.bufLock)
    case S.SO_LINGER:
      out.writeInt32LE(s.linger < 0 ? 0 : 1, 0)
      out.writeInt32LE(Math.max(0, s.linger), 4)
      return 8
    case S.SO_BSDCOMPAT:
      return int(0)
    case S.SO_PASSCRED:
      return int(s.passCred ? 1 : 0)
    case S.SO_RCVLOWAT:
      return int(s.rcvLowat)
    case S.SO_SNDLOWAT:
      return int(1)
    case S.SO_RCVTIMEO:
    case S.SO_RCVTIMEO_NEW:
      return putTimeout(out, s.rcvTimeoNs)
    case S.SO_SNDTIMEO:
    case S.SO_SNDTIMEO_NEW:
      return putTimeout(out, s.sndTimeoNs)
    case S.SO_PEERCRED:
      out.writeInt32LE(0, 0)
      out.writeInt32LE(-1, 4)
      out.writeInt32LE(-1, 8)
      return 12
    case S.SO_PEERGROUPS:
      return -ENODATA
    case S.SO_PEERNAME: {
      const n = s.getname(true, out)
      return n < 0 ? n : n < len ? -EINVAL : n
    }
    case S.SO_BINDTODEVICE:
      return 0
    case S.SO_PEEK_OFF:
      return canPeekAt(s) ? int(s.peekOff) : -EOPNOTSUPP
    case S.SO_BPF_EXTENSIONS:
      return int(64)
    case S.SO_ATTACH_FILTER:
      return 0
    case S.SO_MEMINFO:
      out.fill(0, 0, 36)
      out.writeInt32LE(s.rcvBuf, 4)
      out.writeInt32LE(s.sndBuf, 12)
      return 36
    case S.SO_COOKIE:
      if (len < 8) return -EINVAL
      out.writeInt32LE(s.ino, 0)
      out.writeInt32LE(0, 4)
      return 8
    case S.SO_NETNS_COOKIE:
      if (len !== 8) return -EINVAL
      out.writeInt32LE(1, 0)
      out.writeInt32LE(0, 4)
      return 8
    case S.SO_RESERVE_MEM:
      return int(0)
    default:
      return -ENOPROTOOPT
  }
}

function putTimeout(out: Buffer, ns: number): number {
  const sec = ns === NEVER ? 0 : Math.floor(ns / 1e9)
  const usec = ns === NEVER ? 0 : Math.floor((ns - sec * 1e9) / 1000)
  out.writeUInt32LE(sec >>> 0, 0)
  out.writeUInt32LE(Math.floor(sec / TWO32), 4)
  out.writeUInt32LE(usec, 8)
  out.writeUInt32LE(0, 12)
  return 16
}
