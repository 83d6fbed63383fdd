/**
 * The container in the sandbox: its init process, what `exec` added, and what the CLI asks of them.
 */
import { close } from '../../native/host.ts'
import { phase } from '../../native/phases.ts'
import { EINVAL, ESRCH } from '../abi/errno.ts'
import type { ContainerControl, ControlError } from '../control/control.ts'
import type { BootConfig, ProcessInfo, ProcessSpec, RunState, SignalTarget, Stats } from '../control/protocol.ts'
import { openHostStdio } from '../fs/host/stdio.ts'
import type { Console } from '../fs/tty/console.ts'
import { onProcessExit, shellStatus } from '../kernel/exit.ts'
import type { Kernel } from '../kernel/kernel.ts'
import { makeInfo } from '../kernel/siginfo.ts'
import { sendToGroup } from '../kernel/signal.ts'
import type { SigInfo } from '../kernel/signal-state.ts'
import type { Task } from '../kernel/task.ts'
import type { ThreadGroup } from '../kernel/thread-group.ts'
import type { RootNamespace } from '../vfs/boot-mounts.ts'
import { attachConsole } from './console-stdio.ts'
import { processInfo } from './process-info.ts'
import { discardProcess, failure, loadProgram, newProcess } from './process-start.ts'

const KILLED = 137
/** Remembered results of exec'd processes that nobody has waited for. */
const MAX_REMEMBERED = 1024

export class Container implements ContainerControl {
  private readonly kernel: Kernel
  private readonly root: RootNamespace
  private readonly config: BootConfig
  private init: Task | null = null
  private started = false
  private readonly exited = new Map<number, number>()
  private readonly consoles = new Map<number, Console>()

  constructor(kernel: Kernel, root: RootNamespace, config: BootConfig) {
    this.kernel = kernel
    this.root = root
    this.config = config
  }

  /** Prepares init. null: it waits for start(). */
  boot(): ControlError | null {
    const { config } = this
    // With a terminal, a descriptor may still be redirected elsewhere (`tssandbox do ls > file`).
    const { stdio } = config.fds
    const t = this.prepare(config.process, config.process.terminal ? [config.fds.console, ...stdio] : stdio)
    if (!('tid' in t)) return t
    for (const [i, fd] of config.fds.preserved.entries()) t.fds.replace(t, 3 + i, openHostStdio(this.kernel, fd), false)
    this.init = t
    return null
  }

  /** `fds`: stdin, stdout and stderr; or a host terminal, then what replaces it on 0, 1 and 2 (−1: nothing). */
  private prepare(spec: ProcessSpec, fds: readonly number[]): Task | ControlError {
    const t = newProcess(this.kernel, this.root, spec)
    if (!('tid' in t)) {
      for (const fd of fds) if (fd >= 0) close(fd)
      return t
    }
    if (spec.terminal) {
      this.consoles.set(t.group.pid, attachConsole(t, fds[0]!, spec.consoleSize, this.init === null))
      fds.slice(1).forEach((fd, i) => {
        if (fd >= 0) t.fds.replace(t, i, openHostStdio(this.kernel, fd), false)
      })
    } else {
      for (const fd of fds) t.fds.install(openHostStdio(this.kernel, fd), false, 1024)
    }
    const error = loadProgram(t, spec)
    if (error !== null) {
      discardProcess(t)
      return error
    }
    this.remember(t.group)
    return t
  }

  /** Results of exec'd processes outlive them, for a `wait` that comes late. */
  private remember(group: ThreadGroup): void {
    onProcessExit(group, (status) => {
      this.consoles.delete(group.pid)
      this.exited.set(group.pid, shellStatus(status))
      if (this.exited.size > MAX_REMEMBERED) this.exited.delete(this.exited.keys().next().value!)
    })
  }

  state(): RunState {
    if (this.kernel.exitCode >= 0) return 'stopped'
    if (!this.started) return 'created'
    return this.kernel.paused ? 'paused' : 'running'
  }

  start(): ControlError | null {
    if (this.init === null || this.started) return failure(-EINVAL, 'cannot start an already running container')
    this.started = true
    this.kernel.resume(this.init, 0, false)
    phase('init runs')
    return null
  }

  exec(spec: ProcessSpec, fds: readonly number[]): number | ControlError {
    const t = this.prepare(spec, fds)
    if (!('tid' in t)) return t
    this.kernel.resume(t, 0, false)
    return t.group.pid
  }

  signal(pid: number, signal: number, target: SignalTarget): number {
    // The sender is nobody inside: pid 0, as across pid namespaces.
    const info = makeInfo(signal, 0)
    if (target === 'all') {
      for (const group of [...this.kernel.ids.groups()]) this.deliver(group, info)
      return 0
    }
    const group = this.kernel.ids.group(pid)
    if (group === undefined || group.zombie) return -ESRCH
    if (target === 'group') {
      const pgrp = this.consoles.get(pid)?.foreground ?? group.pgrp
      for (const member of pgrp.members.slice()) this.deliver(member, info)
      return 0
    }
    return this.deliver(group, info)
  }

  private deliver(group: ThreadGroup, info: SigInfo): number {
    if (group.zombie) return 0
    // Nothing of init has run yet: there is nobody to handle a signal, so a fatal one ends the container.
    if (!this.started && group === this.init?.group && info.signo === 9) {
      this.kernel.exitCode = KILLED
      return 0
    }
    return info.signo === 0 ? 0 : sendToGroup(group, info, true)
  }

  onExit(pid: number, callback: (status: number) => void): number {
    const status = this.exited.get(pid)
    if (status !== undefined) {
      callback(status)
      return 0
    }
    const group = this.kernel.ids.group(pid)
    if (group === undefined) return -ESRCH
    onProcessExit(group, (s) => callback(shellStatus(s)))
    return 0
  }

  processes(): ProcessInfo[] {
    const list: ProcessInfo[] = []
    for (const group of this.kernel.ids.groups()) if (!group.zombie) list.push(processInfo(this.kernel, group))
    return list
  }

  pause(): number {
    if (this.state() !== 'running') return -EINVAL
    this.kernel.pause()
    return 0
  }
  resume(): number {
    if (this.state() !== 'paused') return -EINVAL
    this.kernel.unpause()
    return 0
  }

  stats(): Stats {
    let cpuUserNs = 0
    let cpuSystemNs = 0
    for (const group of this.kernel.ids.groups()) {
      if (group.zombie) continue
      const info = processInfo(this.kernel, group)
      cpuUserNs += info.cpuMs * 1e6
      cpuSystemNs += 0
    }
    return { tasks: this.kernel.ids.taskCount, syscalls: this.kernel.syscalls, cpuUserNs, cpuSystemNs }
  }

  resize(pid: number, rows: number, cols: number): number {
    const console = this.consoles.get(pid)
    if (console === undefined) return -ESRCH
    console.resize(rows, cols, 0, 0)
    return 0
  }

  update(limits: Partial<BootConfig['limits']>): number {
    if (limits.pids !== undefined) this.kernel.pidsLimit = limits.pids
    if (limits.memory !== undefined) this.kernel.memoryLimit = limits.memory
    return 0
  }

  shutdown(): void {
    if (this.kernel.exitCode < 0) this.kernel.exitCode = KILLED
  }
}
