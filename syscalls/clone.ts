/**
 * fork, vfork, clone, clone3, unshare, setns.
 */
import { E2BIG, EBADF, EFAULT, EINVAL, EPERM } from '../sentry/abi/errno.ts'
import { getU64 } from '../sentry/abi/words.ts'
import { PidFd } from '../sentry/fs/pidfd.ts'
import {
  CLONE_CLEAR_SIGHAND,
  CLONE_DETACHED,
  CLONE_FILES,
  CLONE_FS,
  CLONE_INTO_CGROUP,
  CLONE_NEWCGROUP,
  CLONE_NEWIPC,
  CLONE_NEWNET,
  CLONE_NEWNS,
  CLONE_NEWPID,
  CLONE_NEWUSER,
  CLONE_NEWUTS,
  CLONE_PARENT,
  CLONE_PARENT_SETTID,
  CLONE_PIDFD,
  CLONE_PTRACE,
  CLONE_SIGHAND,
  CLONE_SYSVSEM,
  CLONE_THREAD,
  CLONE_UNTRACED,
  CLONE_VFORK,
  CLONE_VM,
  type CloneArgs,
  checkCloneFlags,
  clone,
} from '../sentry/kernel/clone.ts'
import { CAP_SYS_ADMIN } from '../sentry/kernel/credentials.ts'
import { RLIMIT_NOFILE } from '../sentry/kernel/limits.ts'
import {
  EVENT_CLONE,
  EVENT_FORK,
  EVENT_VFORK,
  EVENT_VFORK_DONE,
  eventStop,
  inherit,
  type Tracing,
} from '../sentry/kernel/ptrace.ts'
import { BLOCK, type SysRet } from '../sentry/kernel/sysret.ts'
import type { Task } from '../sentry/kernel/task.ts'
import type { ThreadGroup } from '../sentry/kernel/thread-group.ts'
import { unshareMounts } from '../sentry/vfs/mount-namespace.ts'

const CSIGNAL = 0xff
const NAMESPACES =
  CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET
const SIGCHLD = 17

/** A child that is made: what its parent still tells its tracer, or waits for. */
class Made {
  readonly child: ThreadGroup
  readonly pid: number
  /** The event to stop for; 0 = none. */
  event: number
  /** vfork(2): until the child's exec or exit. */
  vfork: boolean
  constructor(child: ThreadGroup, pid: number, event: number, vfork: boolean) {
    this.child = child
    this.pid = pid
    this.event = event
    this.vfork = vfork
  }
}

/** The common end: makes the child, starts it, and waits for it under CLONE_VFORK. */
function start(t: Task, args: CloneArgs, pidfdAddr: number): SysRet {
  if (t.sysState instanceof Made) return made(t, t.sysState)
  const err = checkCloneFlags(args.flags)
  if (err < 0) return err
  if ((args.flags & NAMESPACES) !== 0 && !t.creds.capable(CAP_SYS_ADMIN)) return -EPERM
  // The other kinds are refused as on a host where they are switched off, never silently shared.
  if ((args.flags & NAMESPACES & ~CLONE_NEWNS) !== 0) return -EINVAL
  const child = clone(t, args)
  if (typeof child === 'number') return child
  if ((args.flags & CLONE_PIDFD) !== 0) {
    const fd = t.fds.install(new PidFd(child.group, 0), true, t.group.limits.soft[RLIMIT_NOFILE]!)
    if (fd >= 0) t.writeU32(pidfdAddr, fd)
  }
  const pid = child.tid
  const event = t.traced === null ? 0 : cloneEvent(t.traced, args)
  if (t.traced !== null && (event !== 0 || (args.flags & CLONE_PTRACE) !== 0)) inherit(t, child)
  t.kernel.resume(child, 0, false)
  const vfork = (args.flags & CLONE_VFORK) !== 0
  if (!vfork && event === 0) return pid
  const state = new Made(child.group, pid, event, vfork)
  t.sysState = state
  return made(t, state)
}

/** The event of PTRACE_O_TRACEFORK and its like that this is, where the tracer wants it. */
function cloneEvent(traced: Tracing, args: CloneArgs): number {
  if ((args.flags & CLONE_UNTRACED) !== 0) return 0
  const vfork = (args.flags & CLONE_VFORK) !== 0
  const event = vfork ? EVENT_VFORK : args.exitSignal !== SIGCHLD ? EVENT_CLONE : EVENT_FORK
  return traced.wants(event) ? event : 0
}

/** The rest of the call: the events, and between them vfork(2)'s wait for the child's exec or exit (or our own death). */
function made(t: Task, state: Made): SysRet {
  const { event, pid } = state
  if (event !== 0) {
    state.event = 0
    if (t.traced !== null) {
      eventStop(t, event, pid)
      return BLOCK
    }
  }
  if (!state.vfork) return pid
  if (state.child.vforkParent === t) {
    t.uninterruptible = true
    return BLOCK
  }
  state.vfork = false
  if (t.traced === null || !t.traced.wants(EVENT_VFORK_DONE)) return pid
  eventStop(t, EVENT_VFORK_DONE, pid)
  return BLOCK
}

/** fork(2). */
export function sysFork(t: Task): SysRet {
  return start(t, plain(0), 0)
}

/** vfork(2). */
export function sysVfork(t: Task): SysRet {
  return start(t, plain(CLONE_VM | CLONE_VFORK), 0)
}

const plain = (flags: number): CloneArgs => ({
  flags,
  exitSignal: SIGCHLD,
  stack: 0,
  parentTid: 0,
  childTid: 0,
  tls: 0,
  clearSighand: false,
})

/** clone(2), in the argument order of x86-64. */
export function sysClone(t: Task): SysRet {
  const word = t.argU32(0)
  const flags = (word & ~CSIGNAL) >>> 0
  const parentTid = t.argPtr(2)
  if ((flags & CLONE_PIDFD) !== 0 && (flags & CLONE_PARENT_SETTID) !== 0) return -EINVAL
  return start(
    t,
    {
      flags,
      exitSignal: word & CSIGNAL,
      stack: t.argPtr(1),
      parentTid,
      childTid: t.argPtr(3),
      tls: t.argPtr(4),
      clearSighand: false,
    },
    parentTid,
  )
}

const ARGS = new Uint8Array(4096)
const ARGS_VIEW = new DataView(ARGS.buffer)
const ARGS_SIZE_V0 = 64
const ARGS_SIZE_V2 = 88

/** clone3(2). */
export function sysClone3(t: Task): SysRet {
  if (t.sysState instanceof Made) return made(t, t.sysState)
  const size = t.argPtr(1)
  if (size > ARGS.length) return -E2BIG
  if (size < ARGS_SIZE_V0) return -EINVAL
  ARGS.fill(0, 0, ARGS_SIZE_V2)
  if (t.readBytes(t.argPtr(0), ARGS, size) < 0) return -EFAULT
  for (let i = ARGS_SIZE_V2; i < size; i++) if (ARGS[i] !== 0) return -E2BIG
  const flags64 = getU64(ARGS_VIEW, 0)
  const exitSignal = getU64(ARGS_VIEW, 32)
  const stack = getU64(ARGS_VIEW, 40)
  const stackSize = getU64(ARGS_VIEW, 48)
  const setTid = getU64(ARGS_VIEW, 64)
  const setTidSize = getU64(ARGS_VIEW, 72)
  if (flags64 >= CLONE_INTO_CGROUP * 2 || (flags64 & (CLONE_DETACHED | CSIGNAL)) !== 0) return -EINVAL
  if (flags64 >= CLONE_INTO_CGROUP) return -EBADF
  if (setTidSize > 32 || (setTid === 0) !== (setTidSize === 0)) return -EINVAL
  if (setTidSize !== 0) return t.creds.capable(CAP_SYS_ADMIN) ? -EINVAL : -EPERM
  if (exitSignal > 64) return -EINVAL
  if ((stack === 0) !== (stackSize === 0)) return -EINVAL
  const clearSighand = flags64 >= CLONE_CLEAR_SIGHAND
  const flags = flags64 % 2 ** 32
  if (clearSighand && (flags & CLONE_SIGHAND) !== 0) return -EINVAL
  if ((flags & (CLONE_THREAD | CLONE_PARENT)) !== 0 && exitSignal !== 0) return -EINVAL
  return start(
    t,
    {
      flags,
      exitSignal,
      stack: stack + stackSize,
      parentTid: getU64(ARGS_VIEW, 24),
      childTid: getU64(ARGS_VIEW, 16),
      tls: getU64(ARGS_VIEW, 56),
      clearSighand,
    },
    getU64(ARGS_VIEW, 8),
  )
}

/** unshare(2): what does not need a namespace of its own. */
export function sysUnshare(t: Task): SysRet {
  const flags = t.argU32(0)
  const CLONE_NEWTIME = 0x80
  const known =
    CLONE_THREAD | CLONE_FS | NAMESPACES | CLONE_SIGHAND | CLONE_VM | CLONE_FILES | CLONE_SYSVSEM | CLONE_NEWTIME
  if ((flags & ~known) !== 0) return -EINVAL
  if ((flags & (CLONE_THREAD | CLONE_SIGHAND | CLONE_VM)) !== 0 && t.group.tasks.length > 1) return -EINVAL
  if ((flags & (NAMESPACES | CLONE_NEWTIME)) !== 0 && !t.creds.capable(CAP_SYS_ADMIN)) return -EPERM
  if ((flags & ((NAMESPACES | CLONE_NEWTIME) & ~CLONE_NEWNS)) !== 0) return -EINVAL
  if ((flags & (CLONE_FS | CLONE_NEWNS)) !== 0 && t.fs.shared) {
    const copy = t.fs.clone()
    t.fs.unref()
    t.fs = copy
  }
  if ((flags & CLONE_NEWNS) !== 0) unshareMounts(t.fs)
  if ((flags & CLONE_FILES) !== 0 && t.fds.shared) {
    const copy = t.fds.clone()
    t.fds.unref(t)
    t.fds = copy
  }
  return 0
}

/** setns(2): there is one namespace of each kind; joining it again changes nothing. */
export function sysSetns(t: Task): SysRet {
  const file = t.fds.get(t.argI32(0))
  if (file === undefined) return -EBADF
  if (!file.describe().startsWith('ns:')) return -EINVAL
  return t.creds.capable(CAP_SYS_ADMIN) ? 0 : -EPERM
}
