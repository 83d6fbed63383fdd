/**
 * Starts a process that has no parent inside the container: init, and what `exec` adds.
 */
import { EACCES, EINVAL, ELOOP, ENAMETOOLONG, ENOENT, ENOEXEC, ENOTDIR, EPERM, ERRNO_NAMES } from '../abi/errno.ts'
import type { ControlError } from '../control/control.ts'
import type { ProcessSpec } from '../control/protocol.ts'
import { CAPS_NONE, type CapSet, Credentials } from '../kernel/credentials.ts'
import { execve, openExec } from '../kernel/exec.ts'
import { exitGroup, exitTask } from '../kernel/exit.ts'
import { watchCpuLimit } from '../kernel/itimer.ts'
import type { Kernel } from '../kernel/kernel.ts'
import { Limits } from '../kernel/limits.ts'
import { ProcessGroup, Session } from '../kernel/process-group.ts'
import { SignalActions } from '../kernel/signal-actions.ts'
import { GroupSignals } from '../kernel/signal-state.ts'
import { NO_RESULT } from '../kernel/sysret.ts'
import { Task } from '../kernel/task.ts'
import { ThreadGroup } from '../kernel/thread-group.ts'
import { KernelIovIter } from '../mm/iov-iter.ts'
import { MemoryManager } from '../mm/memory-manager.ts'
import type { RootNamespace } from '../vfs/boot-mounts.ts'
import { FdTable } from '../vfs/fd-table.ts'
import type { FileDescription } from '../vfs/file-description.ts'
import { FsContext } from '../vfs/fs-context.ts'
import type { Path } from '../vfs/path.ts'
import { LOOKUP_DIRECTORY, LOOKUP_FOLLOW, walk } from '../vfs/path-walk.ts'
import { MAY_EXEC, permission } from '../vfs/permission.ts'

const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const MAX_PASSWD = 1 << 20

/** A task with an empty address space, its three descriptors to be filled in by the caller. */
export function newProcess(kernel: Kernel, root: RootNamespace, spec: ProcessSpec): Task | ControlError {
  if (kernel.pidsLimit > 0 && kernel.ids.taskCount >= kernel.pidsLimit) return failure(-11, 'the pids limit is reached')
  const thread = kernel.platform.newAddressSpace()
  if (typeof thread === 'number') return failure(thread, 'cannot make an address space')
  const mm = new MemoryManager(thread.space, kernel.platform.taskSize)
  const fs = new FsContext(root.namespace, root.root, root.root, spec.umask < 0 ? 0o022 : spec.umask)
  const tid = kernel.ids.allocate()
  const t = new Task(kernel, tid, null, mm, new FdTable(), fs, credentialsOf(spec), thread)
  const session = new Session(tid, null)
  const pgrp = new ProcessGroup(tid, session)
  const signals = new GroupSignals(new SignalActions())
  signals.unkillable = tid === 1
  const group = new ThreadGroup(tid, t, null, pgrp, signals, limitsOf(spec), kernel.now())
  group.exitSignal = 0
  group.oomScoreAdj = spec.oomScoreAdj ?? 0
  session.leader = group
  pgrp.members.push(group)
  group.tasks.push(t)
  t.group = group
  watchCpuLimit(group)
  kernel.ids.addTask(t)
  kernel.ids.addGroup(group)
  kernel.ids.addPgrp(pgrp)
  kernel.ids.addSession(session)
  return t
}

/** Takes back a process that newProcess() made and whose program could not be loaded. */
export function discardProcess(t: Task): void {
  const code = t.kernel.exitCode
  exitGroup(t.group, 0)
  exitTask(t, 0)
  t.kernel.exitCode = code
}

function toCapSet(numbers: readonly number[]): CapSet {
  let lo = 0
  let hi = 0
  for (const n of numbers) {
    if (n < 32) lo |= 1 << n
    else hi |= 1 << (n - 32)
  }
  return { lo: lo >>> 0, hi: hi >>> 0 }
}

function credentialsOf(spec: ProcessSpec): Credentials {
  const caps = spec.capabilities
  const { uid, gid } = spec
  return new Credentials({
    uid,
    gid,
    euid: uid,
    egid: gid,
    suid: uid,
    sgid: gid,
    fsuid: uid,
    fsgid: gid,
    groups: spec.additionalGids,
    permitted: toCapSet(caps.permitted),
    effective: toCapSet(caps.effective),
    inheritable: toCapSet(caps.inheritable),
    bounding: toCapSet(caps.bounding),
    ambient: toCapSet(caps.ambient) ?? CAPS_NONE,
    securebits: 0,
    noNewPrivs: spec.noNewPrivileges,
  })
}

function limitsOf(spec: ProcessSpec): Limits {
  const limits = new Limits()
  for (const r of spec.rlimits) {
    limits.soft[r.resource] = r.soft < 0 ? Number.POSITIVE_INFINITY : r.soft
    limits.hard[r.resource] = r.hard < 0 ? Number.POSITIVE_INFINITY : r.hard
  }
  return limits
}

export function failure(errno: number, error: string): ControlError {
  return { errno, error }
}

/** Loads the program of `spec` into `t`, whose descriptors are in place. null: it can run. */
export function loadProgram(t: Task, spec: ProcessSpec): ControlError | null {
  const cwd = walk(t, spec.cwd, LOOKUP_FOLLOW | LOOKUP_DIRECTORY)
  const cwdError = typeof cwd === 'number' ? cwd : permission(t, cwd.inode, MAY_EXEC)
  if (typeof cwd === 'number' || cwdError < 0)
    return failure(cwdError, `chdir to cwd ("${spec.cwd}") set in config.json failed: ${describe(cwdError)}`)
  t.fs.setCwd(cwd)
  const name = spec.args[0]
  if (name === undefined || name === '') return failure(-EINVAL, 'process.args: must not be empty')
  const found = findProgram(t, name, spec.env)
  if (typeof found === 'number') {
    const notInPath = found === -ENOENT && !name.includes('/')
    return failure(
      found,
      `exec: "${name}": ${notInPath ? 'executable file not found in $PATH' : `stat ${describe(found)}`}`,
    )
  }
  const file = openExec(t, found.path)
  if (typeof file === 'number') return failure(file, `exec ${name}: ${describe(file)}`)
  const ret = execve(t, file, found.name, spec.args.slice(), withHome(t, spec))
  return ret === NO_RESULT ? null : failure(ret, `exec ${found.name}: ${describe(ret)}`)
}

interface Found {
  path: Path
  name: string
}

function findProgram(t: Task, name: string, env: readonly string[]): Found | number {
  if (name.includes('/')) {
    const path = walk(t, name, LOOKUP_FOLLOW)
    return typeof path === 'number' ? path : { path, name }
  }
  const variable = env.find((v) => v.startsWith('PATH='))
  let error = -ENOENT
  for (const dir of (variable?.slice(5) ?? DEFAULT_PATH).split(':')) {
    const full = dir === '' ? `./${name}` : `${dir}/${name}`
    const path = walk(t, full, LOOKUP_FOLLOW)
    if (typeof path === 'number') continue
    if (path.inode.isReg && permission(t, path.inode, MAY_EXEC) === 0) return { path, name: full }
    error = -EACCES
  }
  return error
}

/** HOME from /etc/passwd where the specification has none, as runc does. */
function withHome(t: Task, spec: ProcessSpec): string[] {
  if (spec.env.some((v) => v.startsWith('HOME='))) return spec.env.slice()
  const home = passwdHome(t, spec.uid) ?? '/'
  return [...spec.env, `HOME=${home}`]
}

function passwdHome(t: Task, uid: number): string | null {
  const path = walk(t, '/etc/passwd', LOOKUP_FOLLOW)
  if (typeof path === 'number' || !path.inode.isReg || path.inode.size > MAX_PASSWD) return null
  const file = path.inode.open(t, path, 0)
  if (typeof file === 'number') return null
  const text = readAll(t, file)
  file.unref()
  for (const line of text.split('\n')) {
    const fields = line.split(':')
    if (fields[2] === String(uid) && fields[5] !== undefined) return fields[5]
  }
  return null
}

function readAll(t: Task, file: FileDescription): string {
  const buf = Buffer.alloc(MAX_PASSWD)
  let at = 0
  while (at < buf.length) {
    const n = file.read(t, new KernelIovIter(buf, at), at)
    if (n <= 0) break
    at += n
  }
  return buf.latin1Slice(0, at)
}

const SENTENCES: Record<number, string> = {
  [ENOENT]: 'no such file or directory',
  [EACCES]: 'permission denied',
  [EPERM]: 'operation not permitted',
  [ENOTDIR]: 'not a directory',
  [ENOEXEC]: 'exec format error',
  [ELOOP]: 'too many levels of symbolic links',
  [ENAMETOOLONG]: 'file name too long',
}

/** −errno in words, as Go and runc word it. */
export function describe(error: number): string {
  return SENTENCES[-error] ?? ERRNO_NAMES[-error] ?? `error ${error}`
}
