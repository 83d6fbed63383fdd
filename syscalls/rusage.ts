/** struct rusage as getrusage, wait4 and waitid write it (uapi linux/resource.h): what Linux does not fill in is 0 here too. */
import { putU64 } from '../sentry/ipc/ipc-ids.ts'
import type { Usage } from '../sentry/kernel/cpu-times.ts'
import type { Task } from '../sentry/kernel/task.ts'

const RUSAGE = Buffer.alloc(144)

function putTimeval(at: number, ns: number): void {
  putU64(RUSAGE, at, Math.floor(ns / 1e9))
  putU64(RUSAGE, at + 8, Math.floor((ns % 1e9) / 1000))
}

/** 0 or −EFAULT. */
export function writeRusage(t: Task, addr: number, userNs: number, systemNs: number, usage: Usage): number {
  putTimeval(0, userNs)
  putTimeval(16, systemNs)
  putU64(RUSAGE, 32, usage.maxRssKb)
  putU64(RUSAGE, 64, usage.minorFaults)
  putU64(RUSAGE, 72, usage.majorFaults)
  return t.writeBytes(addr, RUSAGE)
}
