/**
 * clone(2): a new thread or process (kernel/fork.c).
 */
import { EAGAIN, EINVAL } from '../abi/errno.ts'
import { FS_BASE, RAX, RSP, setReg } from '../platform/amd64/registers.ts'
import type { GuestThread } from '../platform/platform.ts'
import { unshareMounts } from '../vfs/mount-namespace.ts'
import { cpuBorrow } from './cpu-times.ts'
import { CAP_SYS_ADMIN, CAP_SYS_RESOURCE } from './credentials.ts'
import { watchCpuLimit } from './itimer.ts'
import { RLIMIT_NPROC } from './limits.ts'
import { forkGroupSignals, forkTaskSignals } from './signal-inherit.ts'
import { Task, TRAPPED } from './task.ts'
import { ThreadGroup } from './thread-group.ts'

export const CLONE_VM = 0x100
export const CLONE_FS = 0x200
export const CLONE_FILES = 0x400
export const CLONE_SIGHAND = 0x800
export const CLONE_PIDFD = 0x1000
export const CLONE_PTRACE = 0x2000
export const CLONE_VFORK = 0x4000
export const CLONE_PARENT = 0x8000
export const CLONE_THREAD = 0x10000
export const CLONE_NEWNS = 0x20000
export const CLONE_SYSVSEM = 0x40000
export const CLONE_SETTLS = 0x80000
export const CLONE_PARENT_SETTID = 0x100000
export const CLONE_CHILD_CLEARTID = 0x200000
export const CLONE_DETACHED = 0x400000
export const CLONE_UNTRACED = 0x800000
export const CLONE_CHILD_SETTID = 0x1000000
export const CLONE_NEWCGROUP = 0x2000000
export const CLONE_NEWUTS = 0x4000000
export const CLONE_NEWIPC = 0x8000000
export const CLONE_NEWUSER = 0x10000000
export const CLONE_NEWPID = 0x20000000
export const CLONE_NEWNET = 0x40000000
export const CLONE_IO = 0x80000000
export const CLONE_CLEAR_SIGHAND = 2 ** 32
export const CLONE_INTO_CGROUP = 2 ** 33

export interface CloneArgs {
  /** The low 32 CLONE_* bits, without the exit signal. */
  flags: number
  exitSignal: number
  /** New stack pointer; 0 = the parent's. */
  stack: number
  parentTid: number
  childTid: number
  tls: number
  clearSighand: boolean
}

/** The flag combinations that Linux refuses (copy_process), in its order. 0 or −EINVAL. */
export function checkCloneFlags(flags: number): number {
  if ((flags & (CLONE_NEWNS | CLONE_FS)) === (CLONE_NEWNS | CLONE_FS)) return -EINVAL
  if ((flags & (CLONE_NEWUSER | CLONE_FS)) === (CLONE_NEWUSER | CLONE_FS)) return -EINVAL
  if ((flags & CLONE_THREAD) !== 0 && (flags & CLONE_SIGHAND) === 0) return -EINVAL
  if ((flags & CLONE_SIGHAND) !== 0 && (flags & CLONE_VM) === 0) return -EINVAL
  if ((flags & CLONE_THREAD) !== 0 && (flags & (CLONE_NEWUSER | CLONE_NEWPID)) !== 0) return -EINVAL
  if ((flags & CLONE_PIDFD) !== 0 && (flags & (CLONE_DETACHED | CLONE_THREAD)) !== 0) return -EINVAL
  return 0
}

/** The new task, trapped and ready to be resumed, or −errno. */
export function clone(t: Task, args: CloneArgs): Task | number {
  const { flags } = args
  const kernel = t.kernel
  if (kernel.pidsLimit > 0 && kernel.ids.taskCount >= kernel.pidsLimit) return -EAGAIN
  if ((flags & CLONE_PARENT) !== 0 && t.group.pid === 1) return -EINVAL
  if (overProcessLimit(t)) return -EAGAIN
  const sameMemory = (flags & CLONE_VM) !== 0
  const thread: GuestThread | number = sameMemory ? t.thread.space.newThread(t.thread) : t.thread.space.fork(t.thread)
  if (typeof thread === 'number') return thread

  const mm = sameMemory ? t.mm.ref() : t.mm.fork(thread.space)
  const fds = (flags & CLONE_FILES) !== 0 ? t.fds.ref() : t.fds.clone()
  const fs = (flags & CLONE_FS) !== 0 ? t.fs.ref() : t.fs.clone()
  if ((flags & CLONE_NEWNS) !== 0) unshareMounts(fs)
  const tid = kernel.ids.allocate()
  const child = new Task(kernel, tid, t.group, mm, fds, fs, t.creds, thread)
  child.name = t.name
  child.state = TRAPPED
  child.keepCaps = t.keepCaps
  child.sched = t.sched.fork()
  child.personality = t.personality
  child.seccomp = t.seccomp
  child.timerSlack = t.timerSlack
  forkTaskSignals(t, child, sameMemory && (flags & CLONE_VFORK) === 0)
  if ((flags & CLONE_THREAD) === 0) newGroup(t, child, args)
  else t.group.signals.actions.withdraw()
  child.group.tasks.push(child)
  kernel.ids.addTask(child)
  child.publishIds()

  setReg(thread.regs, RAX, 0)
  if (args.stack !== 0) setReg(thread.regs, RSP, args.stack)
  if ((flags & CLONE_SETTLS) !== 0) setReg(thread.regs, FS_BASE, args.tls)
  if ((flags & CLONE_PARENT_SETTID) !== 0) t.writeU32(args.parentTid, tid)
  if ((flags & CLONE_CHILD_SETTID) !== 0) child.writeWithResume(args.childTid, tid)
  if ((flags & CLONE_CHILD_CLEARTID) !== 0) child.clearChildTid = args.childTid
  return child
}

function overProcessLimit(t: Task): boolean {
  const limit = t.group.limits.soft[RLIMIT_NPROC]!
  const { creds } = t
  if (creds.uid === 0 || creds.capable(CAP_SYS_RESOURCE) || creds.capable(CAP_SYS_ADMIN)) return false
  let count = 0
  for (const other of t.kernel.ids.tasks()) if (other.creds.uid === creds.uid) count++
  return count >= limit
}

function newGroup(t: Task, child: Task, args: CloneArgs): void {
  const parent = (args.flags & CLONE_PARENT) !== 0 ? t.group.parent : t.group
  const shared = (args.flags & CLONE_SIGHAND) !== 0
  const signals = forkGroupSignals(t, shared, args.clearSighand)
  const group = new ThreadGroup(child.tid, child, parent, t.group.pgrp, signals, t.group.limits.clone(), t.kernel.now())
  group.exitSignal = (args.flags & CLONE_PARENT) !== 0 ? t.group.exitSignal : args.exitSignal
  group.oomScoreAdj = t.group.oomScoreAdj
  group.dumpable = t.group.dumpable
  child.group = group
  parent?.children.push(group)
  t.group.pgrp.members.push(group)
  group.makerTid = (args.flags & CLONE_PARENT) !== 0 ? t.group.makerTid : t.tid
  t.kernel.ids.addGroup(group)
  watchCpuLimit(group)
  if ((args.flags & CLONE_VM) !== 0) cpuBorrow(group, t.group)
  if ((args.flags & CLONE_VFORK) !== 0) group.vforkParent = t
  if ((args.flags & CLONE_VM) !== 0) cpuBorrow(group, t.group)
}
