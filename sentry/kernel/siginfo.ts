/**
 * siginfo_t: making one, and its 128 bytes as a handler, waitid(2) or signalfd(2) sees them (uapi asm-generic/siginfo.h,
 * kernel/signal.c: siginfo_layout). Bytes that Linux leaves zero are zero here.
 */
import {
  SI_KERNEL,
  SI_QUEUE,
  SI_SIGIO,
  SI_TIMER,
  SIGBUS,
  SIGCHLD,
  SIGFPE,
  SIGILL,
  SIGIO,
  SIGSEGV,
  SIGSYS,
  SIGTRAP,
} from '../abi/signal.ts'
import type { SigInfo } from './signal-state.ts'

export const SIGINFO_SIZE = 128
const TWO32 = 0x1_0000_0000

export function makeInfo(signo: number, code: number): SigInfo {
  return {
    signo,
    errno: 0,
    code,
    pid: 0,
    uid: 0,
    status: 0,
    valueLo: 0,
    valueHi: 0,
    addr: 0,
    id: 0,
    utime: 0,
    stime: 0,
    raw: null,
    source: null,
  }
}

export const LAYOUT_KILL = 0
export const LAYOUT_TIMER = 1
export const LAYOUT_RT = 2
export const LAYOUT_CHILD = 3
export const LAYOUT_FAULT = 4
export const LAYOUT_POLL = 5
export const LAYOUT_SYS = 6

/** Which member of the union is meant. */
export function layoutOf(signo: number, code: number): number {
  if (code > 0 && code < SI_KERNEL) {
    switch (signo) {
      case SIGILL:
      case SIGFPE:
      case SIGSEGV:
      case SIGBUS:
      case SIGTRAP:
        return LAYOUT_FAULT
      case SIGCHLD:
        return LAYOUT_CHILD
      case SIGIO:
        return LAYOUT_POLL
      case SIGSYS:
        return LAYOUT_SYS
      default:
        return code <= 6 ? LAYOUT_POLL : LAYOUT_KILL
    }
  }
  if (code === SI_TIMER) return LAYOUT_TIMER
  if (code === SI_SIGIO) return LAYOUT_POLL
  return code < 0 ? LAYOUT_RT : LAYOUT_KILL
}

/** Writes the 128 bytes at `at`. */
export function encodeSigInfo(info: SigInfo, out: Uint8Array, at: number): void {
  if (info.raw !== null) {
    out.set(info.raw, at)
    return
  }
  out.fill(0, at, at + SIGINFO_SIZE)
  const v = new DataView(out.buffer, out.byteOffset + at, SIGINFO_SIZE)
  v.setInt32(0, info.signo, true)
  v.setInt32(4, info.errno, true)
  v.setInt32(8, info.code, true)
  switch (layoutOf(info.signo, info.code)) {
    case LAYOUT_TIMER:
      v.setInt32(16, info.id, true)
      v.setInt32(20, info.status, true)
      v.setUint32(24, info.valueLo, true)
      v.setUint32(28, info.valueHi, true)
      break
    case LAYOUT_RT:
      v.setInt32(16, info.pid, true)
      v.setUint32(20, info.uid, true)
      v.setUint32(24, info.valueLo, true)
      v.setUint32(28, info.valueHi, true)
      break
    case LAYOUT_CHILD:
      v.setInt32(16, info.pid, true)
      v.setUint32(20, info.uid, true)
      v.setInt32(24, info.status, true)
      v.setUint32(32, info.utime >>> 0, true)
      v.setUint32(36, Math.floor(info.utime / TWO32), true)
      v.setUint32(40, info.stime >>> 0, true)
      v.setUint32(44, Math.floor(info.stime / TWO32), true)
      break
    case LAYOUT_FAULT:
      v.setUint32(16, info.valueLo, true)
      v.setUint32(20, info.valueHi, true)
      break
    case LAYOUT_POLL:
      v.setInt32(16, info.status, true)
      v.setInt32(24, info.id, true)
      break
    case LAYOUT_SYS:
      v.setUint32(16, info.addr >>> 0, true)
      v.setUint32(20, Math.floor(info.addr / TWO32) >>> 0, true)
      v.setInt32(24, info.id, true)
      v.setUint32(28, 0xc000003e, true)
      break
    default:
      v.setInt32(16, info.pid, true)
      v.setUint32(20, info.uid, true)
  }
}

/** For rt_sigqueueinfo(2): what the sender made up is kept byte for byte, and read where the kernel needs it. */
export function decodeSigInfo(bytes: Uint8Array, signo: number): SigInfo {
  const v = new DataView(bytes.buffer, bytes.byteOffset, SIGINFO_SIZE)
  v.setInt32(0, signo, true)
  const info = makeInfo(signo, v.getInt32(8, true))
  info.errno = v.getInt32(4, true)
  info.pid = v.getInt32(16, true)
  info.uid = v.getUint32(20, true)
  info.valueLo = v.getUint32(24, true)
  info.valueHi = v.getUint32(28, true)
  info.status = v.getInt32(24, true)
  if (info.code !== SI_QUEUE) info.raw = bytes.slice(0, SIGINFO_SIZE)
  return info
}
