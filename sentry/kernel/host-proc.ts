/**
 * What the sentry knows of the machine through the host's /proc: CPUs, memory, load, and how much its own stub processes
 * used.
 *
 * Opened before the sentry confines itself (call {@link openHostProc} early); afterwards only these descriptors are
 * used. Everything degrades to a harmless value when the host's /proc is not there. Guests never see a host pid.
 */
import { clockGettime, close, openat, pread, raw } from '../../native/host.ts'
import type { GuestThread } from '../platform/platform.ts'

const O_RDONLY = 0
const O_CLOEXEC = 0o2000000
const O_PATH = 0o10000000
const O_DIRECTORY = 0o200000
const AT_FDCWD = -100
const SYS_SCHED_SETAFFINITY = 203
const SYS_SCHED_GETAFFINITY = 204
const PAGE = 4096

const BUFFER = Buffer.allocUnsafeSlow(256 * 1024)
const TS = new Uint32Array(4)
const TWO32 = 0x1_0000_0000

let opened = false
let procFd = -1
let meminfoFd = -1
let loadavgFd = -1
let cpuinfoText = ''
let cpuMask: Buffer = Buffer.from([1])
let cpuCount = 1

/** Opens what is needed later. Harmless when called again. */
export function openHostProc(): void {
  if (opened) return
  opened = true
  procFd = openat(AT_FDCWD, '/proc', O_PATH | O_DIRECTORY | O_CLOEXEC, 0)
  meminfoFd = openat(AT_FDCWD, '/proc/meminfo', O_RDONLY | O_CLOEXEC, 0)
  loadavgFd = openat(AT_FDCWD, '/proc/loadavg', O_RDONLY | O_CLOEXEC, 0)
  cpuinfoText = readHostFile('/proc/cpuinfo')
  const mask = Buffer.alloc(128)
  const n = raw.LLP(SYS_SCHED_GETAFFINITY, 0, mask.length, mask, 0, 0, 0)
  if (n > 0) cpuMask = mask.subarray(0, n)
  cpuCount = Math.max(1, (cpuinfoText.match(/^processor\t/gm) ?? []).length)
}

/** From now on through the /proc of the present root: the confined sentry's own, which knows its own processes only. */
export function reopenHostProc(): number {
  const fd = openat(AT_FDCWD, '/proc', O_PATH | O_DIRECTORY | O_CLOEXEC, 0)
  if (fd < 0) return fd
  close(procFd)
  procFd = fd
  return 0
}

/** Shows the container only `count` of the CPUs (0: all). They are the first ones that the sandbox may use. */
export function limitCpus(count: number): void {
  openHostProc()
  if (count <= 0) return
  const mask = Buffer.alloc(cpuMask.length)
  let left = count
  for (let cpu = 0; cpu < cpuMask.length * 8 && left > 0; cpu++) {
    const byte = cpuMask[cpu >> 3]! & (1 << (cpu & 7))
    if (byte === 0) continue
    mask[cpu >> 3]! |= byte
    left--
  }
  cpuMask = mask
  const blocks = cpuinfoText.split('\n\n').filter((block) => block !== '')
  cpuinfoText = `${blocks.slice(0, count).join('\n\n')}\n\n`
  cpuCount = Math.min(cpuCount, count)
}

function readFd(fd: number): string {
  let text = ''
  let at = 0
  for (;;) {
    const n = pread(fd, BUFFER, BUFFER.length, at)
    if (n <= 0) return text
    text += BUFFER.toString('latin1', 0, n)
    at += n
  }
}

/** A file of the host, or ''. Only for use before the sentry is confined. */
export function readHostFile(path: string): string {
  const fd = openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0)
  if (fd < 0) return ''
  const text = readFd(fd)
  close(fd)
  return text
}

/** /proc/cpuinfo as it was at start-up. */
export function hostCpuinfo(): string {
  openHostProc()
  return cpuinfoText
}
/** CPUs of the machine. */
export function hostCpus(): number {
  openHostProc()
  return cpuCount
}
/** The CPUs that the sandbox may use, as the kernel's bit mask (a multiple of 8 bytes). */
export function hostCpuMask(): Buffer {
  openHostProc()
  return cpuMask
}
/** Lets one of our host threads run on the CPUs of `mask` only, where the host allows it. */
export function pinHostThread(hostTid: number, mask: Uint8Array): void {
  raw.LLP(SYS_SCHED_SETAFFINITY, hostTid, mask.length, mask, 0, 0, 0)
}
export function hostMeminfo(): string {
  openHostProc()
  return meminfoFd < 0 ? '' : readFd(meminfoFd)
}
export function hostLoadavg(): string {
  openHostProc()
  return loadavgFd < 0 ? '0.00 0.00 0.00 1/1 1' : readFd(loadavgFd)
}

/** An open file of /proc/PID of one of our stub processes, or −errno. */
export function openHostPidFile(hostPid: number, name: string): number {
  openHostProc()
  return procFd < 0 || hostPid <= 0 ? -2 : openat(procFd, `${hostPid}/${name}`, O_RDONLY | O_CLOEXEC, 0)
}

/** A file of /proc/PID of one of our stub processes, or ''. */
export function hostPidFile(hostPid: number, name: string): string {
  openHostProc()
  if (procFd < 0 || hostPid <= 0) return ''
  const fd = openat(procFd, `${hostPid}/${name}`, O_RDONLY | O_CLOEXEC, 0)
  if (fd < 0) return ''
  const text = readFd(fd)
  close(fd)
  return text
}

/** CPU time of a guest's thread in ns. */
export function hostThreadCpuNs(thread: GuestThread): number {
  const ns = Number(hostPidFile(thread.space.hostPid, `task/${thread.hostTid}/schedstat`).split(' ')[0])
  return Math.max(0, (ns || 0) - thread.cpuBefore)
}

/** The first page of [start, end) that a stub process has touched, or `end`. */
export function firstTouchedPage(hostPid: number, start: number, end: number): number {
  openHostProc()
  const fd = procFd < 0 ? -1 : openat(procFd, `${hostPid}/pagemap`, O_RDONLY | O_CLOEXEC, 0)
  if (fd < 0) return end
  let found = end
  for (let at = start; at < end && found === end; ) {
    const n = pread(fd, BUFFER, Math.min(BUFFER.length, ((end - at) / PAGE) * 8), (at / PAGE) * 8)
    if (n < 8) break
    for (let i = 7; i < n; i += 8) {
      // Bit 63: present, bit 62: swapped.
      if ((BUFFER[i]! & 0xc0) === 0) continue
      found = at + ((i - 7) / 8) * PAGE
      break
    }
    at += (n / 8) * PAGE
  }
  close(fd)
  return found
}

const CLOCK_PROF = 0
const CLOCK_VIRT = 1
const CLOCK_SCHED = 2

/** A CPU clock of another process (clock_getcpuclockid(3)) in ns; 0 when the process is gone. */
function processClock(hostPid: number, which: number): number {
  if (clockGettime((~hostPid << 3) | which, TS) < 0) return 0
  return (TS[0]! + TS[1]! * TWO32) * 1e9 + TS[2]!
}

/** CPU time of a stub process; the result stays until the next call. */
export const hostCpu = { userNs: 0, systemNs: 0 }

/**
 * The scheduler's exact sum, divided by the sampled user and system shares, as Linux does for getrusage(2)
 * (kernel/sched/cputime.c, cputime_adjust).
 */
export function readHostCpu(hostPid: number): typeof hostCpu {
  const total = processClock(hostPid, CLOCK_SCHED)
  const user = processClock(hostPid, CLOCK_VIRT)
  const system = processClock(hostPid, CLOCK_PROF) - user
  if (system <= 0) {
    hostCpu.userNs = total
    hostCpu.systemNs = 0
  } else if (user <= 0) {
    hostCpu.userNs = 0
    hostCpu.systemNs = total
  } else {
    hostCpu.systemNs = Math.min(total, Math.floor((total * system) / (system + user)))
    hostCpu.userNs = total - hostCpu.systemNs
  }
  return hostCpu
}

/** Pages of a stub process: all, resident, shared (statm); the result stays until the next call. */
export const hostPages = { size: 0, resident: 0, shared: 0 }
export function readHostPages(hostPid: number): typeof hostPages {
  const field = hostPidFile(hostPid, 'statm').split(' ')
  hostPages.size = Number(field[0] ?? 0) || 0
  hostPages.resident = Number(field[1] ?? 0) || 0
  hostPages.shared = Number(field[2] ?? 0) || 0
  return hostPages
}

/** Page faults and resident size of a stub process; the result stays until the next call. */
export const hostUsage = { maxRssKb: 0, minorFaults: 0, majorFaults: 0 }
export function readHostUsage(hostPid: number): typeof hostUsage {
  const stat = hostPidFile(hostPid, 'stat')
  const field = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  hostUsage.minorFaults = Number(field[7]) || 0
  hostUsage.majorFaults = Number(field[9]) || 0
  hostUsage.maxRssKb = (Number(field[21]) || 0) * (PAGE / 1024)
  return hostUsage
}
