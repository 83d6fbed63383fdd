/**
 * Calls about the system as a whole: names, memory and load, random numbers, the kernel log.
 */
import { getrandom, raw } from '../native/host.ts'
import { EFAULT, EINTR, EINVAL, ENOSYS, EPERM } from '../sentry/abi/errno.ts'
import { uptimeNs } from '../sentry/kernel/clock.ts'
import { CAP_SYS_ADMIN, CAP_SYSLOG } from '../sentry/kernel/credentials.ts'
import { hostLoadavg } from '../sentry/kernel/host-proc.ts'
import { systemMemory } from '../sentry/kernel/memory-info.ts'
import type { SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import { UTS_MACHINE, UTS_RELEASE, UTS_SYSNAME, UTS_VERSION } from '../sentry/kernel/uts.ts'
import { fileSystems } from '../sentry/vfs/file-system.ts'

const UTS_LEN = 65
const UTSNAME = Buffer.alloc(6 * UTS_LEN)

/** uname(2). */
export function sysUname(t: Task): SysRet {
  const uts = t.kernel.uts
  UTSNAME.fill(0)
  UTSNAME.write(UTS_SYSNAME, 0, UTS_LEN - 1, 'latin1')
  UTSNAME.write(uts.nodename, UTS_LEN, UTS_LEN - 1, 'latin1')
  UTSNAME.write(UTS_RELEASE, 2 * UTS_LEN, UTS_LEN - 1, 'latin1')
  UTSNAME.write(UTS_VERSION, 3 * UTS_LEN, UTS_LEN - 1, 'latin1')
  UTSNAME.write(UTS_MACHINE, 4 * UTS_LEN, UTS_LEN - 1, 'latin1')
  UTSNAME.write(uts.domainname, 5 * UTS_LEN, UTS_LEN - 1, 'latin1')
  return t.writeBytes(t.argPtr(0), UTSNAME)
}

const NAME = Buffer.alloc(64)

/** A name of at most 64 bytes for sethostname and setdomainname, or −errno. */
function newName(t: Task): string | number {
  if (!t.creds.capable(CAP_SYS_ADMIN)) return -EPERM
  const len = t.argI32(1)
  if (len < 0 || len > NAME.length) return -EINVAL
  if (t.readBytes(t.argPtr(0), NAME, len) < 0) return -EFAULT
  const text = NAME.toString('latin1', 0, len)
  const end = text.indexOf('\0')
  return end < 0 ? text : text.slice(0, end)
}

/** sethostname(2). */
export function sysSethostname(t: Task): SysRet {
  const name = newName(t)
  if (typeof name === 'number') return name
  t.kernel.uts.nodename = name
  return 0
}

/** setdomainname(2). */
export function sysSetdomainname(t: Task): SysRet {
  const name = newName(t)
  if (typeof name === 'number') return name
  t.kernel.uts.domainname = name
  return 0
}

const SYSINFO = Buffer.alloc(112)
const SI_LOAD_SHIFT = 65536

/** sysinfo(2). */
export function sysSysinfo(t: Task): SysRet {
  const memory = systemMemory(t.kernel)
  const load = hostLoadavg().split(' ')
  const put = (at: number, value: number): void => {
    SYSINFO.writeUInt32LE(value >>> 0, at)
    SYSINFO.writeUInt32LE(Math.floor(value / 0x1_0000_0000) >>> 0, at + 4)
  }
  SYSINFO.fill(0)
  put(0, Math.floor(uptimeNs() / 1e9))
  for (let i = 0; i < 3; i++) put(8 + 8 * i, Math.floor((Number(load[i]) || 0) * SI_LOAD_SHIFT))
  put(32, memory.total)
  put(40, memory.free)
  put(48, memory.shared)
  put(56, memory.buffers)
  put(64, memory.swapTotal)
  put(72, memory.swapFree)
  SYSINFO.writeUInt16LE(Math.min(0xffff, t.kernel.ids.taskCount), 80)
  SYSINFO.writeUInt32LE(1, 104)
  return t.writeBytes(t.argPtr(0), SYSINFO)
}

const GRND_ALL = 7
const GRND_RANDOM = 2
const GRND_INSECURE = 4
const RANDOM = new Uint8Array(64 * 1024)

/** getrandom(2). */
export function sysGetrandom(t: Task): SysRet {
  const flags = t.argU32(2)
  if ((flags & ~GRND_ALL) !== 0) return -EINVAL
  if ((flags & (GRND_RANDOM | GRND_INSECURE)) === (GRND_RANDOM | GRND_INSECURE)) return -EINVAL
  const buf = t.argPtr(0)
  const count = Math.min(t.argPtr(1), 0x7fffffff)
  let done = 0
  while (done < count) {
    // A signal ends a long request after a page, as in Linux.
    if (done > 0 && t.signalPending) return done
    const want = Math.min(RANDOM.length, count - done)
    const got = getrandom(RANDOM, want, 0)
    if (got < 0) return done > 0 ? done : -EINTR
    const copied = t.copyOut(buf + done, RANDOM, 0, got)
    done += copied
    if (copied < got) return done > 0 ? done : -EFAULT
  }
  return done
}

const SYSLOG_ACTION_READ = 2
const SYSLOG_ACTION_READ_ALL = 3
const SYSLOG_ACTION_READ_CLEAR = 4
const SYSLOG_ACTION_SIZE_UNREAD = 9
const SYSLOG_ACTION_SIZE_BUFFER = 10
const LOG_BUF_LEN = 1 << 18

function kernelLog(): string {
  return `<5>[    0.000000] ${UTS_SYSNAME} version ${UTS_RELEASE} ${UTS_VERSION}\n`
}

/** syslog(2): a log of one line, so that dmesg works. */
export function sysSyslog(t: Task): SysRet {
  const type = t.argI32(0)
  if (type !== SYSLOG_ACTION_READ_ALL && type !== SYSLOG_ACTION_SIZE_BUFFER && !t.creds.capable(CAP_SYSLOG))
    return -EPERM
  switch (type) {
    case 0:
    case 1:
    case 5:
    case 6:
    case 7:
      return 0
    case 8: {
      const level = t.argI32(2)
      return level < 1 || level > 8 ? -EINVAL : 0
    }
    case SYSLOG_ACTION_READ:
    case SYSLOG_ACTION_READ_ALL:
    case SYSLOG_ACTION_READ_CLEAR: {
      const len = t.argI32(2)
      const buf = t.argPtr(1)
      if (buf === 0 || len < 0) return -EINVAL
      if (len === 0) return 0
      const text = Buffer.from(kernelLog(), 'latin1')
      const n = Math.min(len, text.length)
      return t.writeBytes(buf, text, n) < 0 ? -EFAULT : n
    }
    case SYSLOG_ACTION_SIZE_UNREAD:
      return 0
    case SYSLOG_ACTION_SIZE_BUFFER:
      return LOG_BUF_LEN
    default:
      return -EINVAL
  }
}

/** getcpu(2): where the vDSO did not answer. */
export function sysGetcpu(t: Task): SysRet {
  const cpu = t.argPtr(0)
  const node = t.argPtr(1)
  if (cpu !== 0 && t.writeU32(cpu, 0) < 0) return -EFAULT
  if (node !== 0 && t.writeU32(node, 0) < 0) return -EFAULT
  return 0
}

const PERSONALITY_QUERY = 0xffffffff

/** personality(2): remembered and inherited; exec looks at ADDR_NO_RANDOMIZE. */
export function sysPersonality(t: Task): SysRet {
  const wanted = t.argU32(0)
  const old = t.personality
  if (wanted !== PERSONALITY_QUERY) t.personality = wanted
  return old
}

const SYS_MEMBARRIER = 324
const MEMBARRIER_CMD_GLOBAL = 1

/**
 * membarrier(2): only the global command, which the host carries out for every CPU whoever asks. The expedited ones
 * would have to run in the guest's process.
 */
export function sysMembarrier(t: Task): SysRet {
  if (t.argU32(1) !== 0) return -EINVAL
  const cmd = t.argI32(0)
  if (cmd === 0) return raw.L(SYS_MEMBARRIER, 0, 0, 0, 0, 0, 0) < 0 ? -ENOSYS : MEMBARRIER_CMD_GLOBAL
  if (cmd === MEMBARRIER_CMD_GLOBAL) return raw.L(SYS_MEMBARRIER, MEMBARRIER_CMD_GLOBAL, 0, 0, 0, 0, 0)
  return -EINVAL
}

/** sysfs(2): file system types by name and by number. */
export function sysSysfs(t: Task): SysRet {
  const types = [...fileSystems()]
  switch (t.argI32(0)) {
    case 1: {
      const name = t.readString(t.argPtr(1), 4096)
      if (typeof name === 'number') return name
      const index = types.findIndex((type) => type.name === name)
      return index < 0 ? -EINVAL : index
    }
    case 2: {
      const type = types[t.argU32(1)]
      if (type === undefined) return -EINVAL
      return t.writeBytes(t.argPtr(2), Buffer.from(`${type.name}\0`, 'latin1'))
    }
    case 3:
      return types.length
    default:
      return -EINVAL
  }
}
