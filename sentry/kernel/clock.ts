/**
 * The host's clocks, which are the guest's too (the vDSO reads them natively).
 */
import { clockInto, clockNs } from '../../native/host.ts'
import { HostMemory } from '../../native/host-files.ts'

export const CLOCK_REALTIME = 0
export const CLOCK_MONOTONIC = 1
export const CLOCK_BOOTTIME = 7

/** A struct timespec. */
const NOW = new HostMemory(16)
const TS = new Uint32Array(NOW.bytes.buffer, NOW.bytes.byteOffset, 4)
const TWO32 = 0x1_0000_0000

/** CLOCK_MONOTONIC in ns, exact below 104 days of uptime. */
export function monotonicNs(): number {
  return clockNs(CLOCK_MONOTONIC)
}

/** Time since the machine booted, suspend included, in ns: what /proc/uptime and sysinfo(2) show. */
export function uptimeNs(): number {
  return clockNs(CLOCK_BOOTTIME)
}

/** CLOCK_REALTIME; the result stays until the next call. */
export const realtime = { sec: 0, nsec: 0 }
export function readRealtime(): typeof realtime {
  clockInto(CLOCK_REALTIME, NOW.address)
  realtime.sec = TS[0]! + TS[1]! * TWO32
  realtime.nsec = TS[2]!
  return realtime
}
