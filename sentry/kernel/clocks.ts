/**
 * Clocks by id (clock_gettime(2)): the wall clocks are the host's, the CPU clocks those of guest processes and threads,
 * named by guest ids.
 */

import { clockGettime } from '../../native/host.ts'
import { EFAULT, EINVAL } from '../abi/errno.ts'
import { groupCpu } from './cpu-times.ts'
import { hostThreadCpuNs } from './host-proc.ts'
import { DEAD, type Task } from './task.ts'

const CLOCK_PROCESS_CPUTIME_ID = 2
const CLOCK_THREAD_CPUTIME_ID = 3
const CLOCK_REALTIME_ALARM = 8
const CLOCK_BOOTTIME_ALARM = 9
const CPUCLOCK_PERTHREAD = 4
const CPUCLOCK_MASK = 3
const CPUCLOCK_SCHED = 2
const TWO32 = 0x1_0000_0000
const TS = new Uint32Array(4)
const USER = new Uint8Array(16)
const USER_VIEW = new DataView(USER.buffer)

/** A wall clock into struct timespec. */
export function clockNow(clock: number, out: Uint32Array): number {
  return clockGettime(clock, out)
}

/** CPU time of one thread in ns. */
export function threadCpuNs(t: Task): number {
  if (t.state === DEAD) return 0
  return hostThreadCpuNs(t.thread)
}

/** How to read a CPU clock (own, or made by clock_getcpuclockid(3) from a guest id); null: no such clock. */
export function cpuClockOf(t: Task, clock: number): (() => number) | null {
  const process = (group: Task['group']) => () => {
    const cpu = groupCpu(group)
    return cpu.userNs + cpu.systemNs
  }
  if (clock === CLOCK_PROCESS_CPUTIME_ID) return process(t.group)
  if (clock === CLOCK_THREAD_CPUTIME_ID) return () => threadCpuNs(t)
  if (clock >= 0) return null
  const id = ~(clock >> 3)
  if ((clock & CPUCLOCK_MASK) > CPUCLOCK_SCHED) return null
  const ids = t.kernel.ids
  if (clock & CPUCLOCK_PERTHREAD) {
    const target = id === 0 ? t : ids.task(id)
    if (target === undefined || target.group !== t.group) return null
    return () => threadCpuNs(target)
  }
  const group = id === 0 ? t.group : ids.group(id)
  return group === undefined ? null : process(group)
}

/** An absolute struct timespec on a wall clock as monotonic ns, or −EFAULT, or −EINVAL. */
export function monotonicDeadline(t: Task, clock: number, addr: number): number {
  if (t.readBytes(addr, USER) < 0) return -EFAULT
  const sec = USER_VIEW.getUint32(0, true) + USER_VIEW.getInt32(4, true) * TWO32
  const nsec = USER_VIEW.getUint32(8, true) + USER_VIEW.getInt32(12, true) * TWO32
  if (sec < 0 || nsec < 0 || nsec >= 1e9) return -EINVAL
  return toMonotonic(t, clock, sec, nsec)
}

/** (sec, nsec) on a wall clock as monotonic ns; the past becomes "now or earlier", never negative. */
export function toMonotonic(t: Task, clock: number, sec: number, nsec: number): number {
  // The alarm clocks run like the ones they are made from.
  const base = clock === CLOCK_REALTIME_ALARM ? 0 : clock === CLOCK_BOOTTIME_ALARM ? 7 : clock
  clockGettime(base, TS)
  const now = t.kernel.now()
  return Math.max(0, now + (sec - (TS[0]! + TS[1]! * TWO32)) * 1e9 + (nsec - TS[2]!))
}
