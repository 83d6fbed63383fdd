/**
 * A container in a VM, as the control server sees it: what the sentry's Container is for a container of its own. Requests
 * that the agent has to answer wait for it (agent.ts); output, input and exits run by themselves.
 */

import { close } from '../native/host.ts'
import { EBUSY, EINVAL, ENODEV, EOPNOTSUPP, ESRCH } from '../sentry/abi/errno.ts'
import type { ContainerControl, ControlError } from '../sentry/control/control.ts'
import type { BootConfig, ProcessInfo, ProcessSpec, RunState, SignalTarget, Stats } from '../sentry/control/protocol.ts'
import type { AgentClient, AgentListener, AgentReply } from './agent.ts'
import type { Loop } from './loop.ts'
import { containerOrder, FIRST_CONTAINER, handleOf, MSG, type Placing, processOrder, TARGETS } from './messages.ts'
import { compileProfile, type GuestFilter } from './seccomp.ts'
import { ProcessStreams, stdioKind } from './streams.ts'
import { type Encodable, Fields, WireError } from './wire.ts'

/** A guest that has not answered by then never will: its host may be very busy, though, and emulate it. */
const PATIENCE_MS = 20_000
const CREATE_PATIENCE_MS = 60_000
const SIGKILL = 9
const SIGHUP = 1
const KILLED = 137
/** How long output may still be taken after its process was killed. */
const KILLED_FLUSH_MS = 1000
const INIT_HANDLE = 1
/** The agent's words. */
const NO_PORT = 'no connection for a mount'
const PORTS_MS = 5000
const PORTS_PAUSE_MS = 5

interface GuestProcess {
  handle: number
  pid: number
  streams: ProcessStreams
  /** −1: it runs. */
  status: number
  callbacks: ((status: number) => void)[]
}

export class VmContainer implements ContainerControl, AgentListener {
  agent!: AgentClient
  private readonly boot: BootConfig
  private readonly loop: Loop
  /** In its VM. */
  number = FIRST_CONTAINER
  private runState: RunState = 'created'
  private readonly byHandle = new Map<number, GuestProcess>()
  private readonly byPid = new Map<number, GuestProcess>()
  private nextHandle = INIT_HANDLE
  /** For init and whatever is exec'd. */
  private readonly filter: GuestFilter | null
  /** Set once: the exit code of this process. */
  exitCode = -1
  /** Why the VM is no more, when it went by itself. */
  failure = ''
  /** More about that, from the guest's console. */
  describeEnd: () => string = () => ''
  /** Called before init runs: what is known only by then (the network). Returns an error or ''. */
  beforeStart: () => string = () => ''
  /** Called when init runs. */
  afterStart: () => void = () => {}

  /** Where the container's VM takes members in. */
  pod: { attach(fd: number): number } | null = null

  constructor(boot: BootConfig, loop: Loop) {
    this.boot = boot
    this.loop = loop
    this.filter = boot.seccomp ? compileProfile(boot.seccomp) : null
  }

  /** START has been said with CREATE. */
  private atOnce = false

  /** Everything but the run, unless `placing` has it `atOnce`: '' or why not. `asked` is called when the order is on its way. */
  create(placing: Placing, asked: () => void = () => {}): string {
    const { boot } = this
    const { stdio, console } = boot.fds
    const process = this.add(stdio, console)
    const kinds = stdio.map(stdioKind)
    const order = containerOrder(boot, this.number, placing, kinds, this.filter)
    const reply = this.requestCreate([process.handle, ...order], asked)
    if (reply.errno) return this.failure || reply.text || `errno ${reply.errno}`
    this.atOnce = placing.atOnce
    process.pid = 1
    this.byPid.set(1, process)
    return ''
  }

  /** Ports that were put into a running VM appear in it a moment later, and those of a former mount are free a moment later. */
  private requestCreate(order: readonly Encodable[], asked: () => void): AgentReply {
    const deadline = performance.now() + PORTS_MS
    let seq = this.agent.ask(MSG.CREATE, ...order)
    asked()
    for (;;) {
      const reply = this.agent.answer(seq, CREATE_PATIENCE_MS)
      const again = reply.text === NO_PORT && (reply.errno === ENODEV || reply.errno === EBUSY)
      if (!again || performance.now() > deadline) return reply
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PORTS_PAUSE_MS)
      seq = this.agent.ask(MSG.CREATE, ...order)
    }
  }

  private add(fds: readonly number[], console: number): GuestProcess {
    const handle = handleOf(this.number, this.nextHandle++)
    const owner = {
      onFlushed: () => this.finish(),
      onHangup: () => void this.signal(this.byHandle.get(handle)?.pid ?? 0, SIGHUP, 'process'),
    }
    const kinds = fds.map(stdioKind)
    const streams = new ProcessStreams(handle, fds, kinds, console, this.agent, this.loop, owner)
    const process: GuestProcess = { handle, pid: 0, streams, status: -1, callbacks: [] }
    this.byHandle.set(handle, process)
    return process
  }

  state(): RunState {
    return this.runState
  }

  start(): ControlError | null {
    if (this.runState !== 'created') return { errno: -EBUSY, error: 'it runs already' }
    if (!this.atOnce) {
      const problem = this.beforeStart()
      if (problem) return { errno: -EINVAL, error: problem }
      const reply = this.agent.request(PATIENCE_MS, MSG.START, this.number)
      if (reply.errno) return this.refusal(reply)
    }
    this.runState = 'running'
    this.byPid.get(1)?.streams.begin()
    this.afterStart()
    return null
  }

  private refusal(reply: AgentReply): ControlError {
    return { errno: -reply.errno, error: reply.text || `errno ${reply.errno}` }
  }

  exec(spec: ProcessSpec, fds: readonly number[]): number | ControlError {
    const terminal = spec.terminal
    const stdio = terminal ? [-1, -1, -1] : fds
    const process = this.add(stdio, terminal ? fds[0]! : -1)
    const kinds = stdio.map(stdioKind)
    const order = processOrder(spec, kinds, this.filter)
    const reply = this.agent.request(PATIENCE_MS, MSG.EXEC, this.number, process.handle, order)
    const pid = reply.errno ? 0 : this.readPid(reply)
    if (pid <= 1) {
      process.streams.dispose()
      this.byHandle.delete(process.handle)
      return reply.errno ? this.refusal(reply) : { errno: -EINVAL, error: 'the agent gave no pid' }
    }
    process.pid = pid
    this.byPid.set(pid, process)
    process.streams.begin()
    return pid
  }

  private readPid(reply: AgentReply): number {
    try {
      return new Fields(reply.values).u32()
    } catch {
      return 0
    }
  }

  signal(pid: number, signal: number, target: SignalTarget): number {
    const init = this.byPid.get(1)
    if (signal === SIGKILL && (pid === 1 || target === 'all') && init && init.status >= 0) {
      // It has ended, and only its output is still being read: that is what is given up now.
      this.exitCode = init.status
      return 0
    }
    const reply = this.agent.request(PATIENCE_MS, MSG.SIGNAL, this.number, pid, signal, TARGETS[target])
    return reply.errno ? -reply.errno : 0
  }

  onExit(pid: number, callback: (status: number) => void): number {
    const process = this.byPid.get(pid)
    if (!process) return -ESRCH
    if (process.status >= 0 && !process.streams.pending) callback(process.status)
    else process.callbacks.push(callback)
    return 0
  }

  processes(): ProcessInfo[] {
    const reply = this.agent.request(PATIENCE_MS, MSG.PROCESSES, this.number)
    const out: ProcessInfo[] = []
    try {
      for (const entry of reply.values) {
        if (!Array.isArray(entry)) throw new WireError('a process that is none')
        const f = new Fields(entry)
        out.push({
          pid: f.u32(),
          ppid: f.u32(),
          hostPid: 0,
          uid: f.u32(),
          state: f.text(),
          threads: f.u32(),
          cpuMs: f.integer(),
          startTime: f.integer(),
          tty: f.text(),
          command: f.text(),
        })
      }
    } catch (error) {
      if (!(error instanceof WireError)) throw error
      this.agent.fail(`its agent sent ${error.message}`)
    }
    return out
  }

  pause(): number {
    return this.freeze(true)
  }
  resume(): number {
    return this.freeze(false)
  }
  private freeze(on: boolean): number {
    const reply = this.agent.request(PATIENCE_MS, MSG.FREEZE, this.number, on)
    if (reply.errno) return -reply.errno
    if (this.runState === 'running' || this.runState === 'paused') this.runState = on ? 'paused' : 'running'
    return 0
  }

  stats(): Stats {
    const reply = this.agent.request(PATIENCE_MS, MSG.STATS, this.number)
    const number = (i: number) => (typeof reply.values[i] === 'number' ? (reply.values[i] as number) : 0)
    return { tasks: number(0), syscalls: 0, cpuUserNs: number(1) * 1000, cpuSystemNs: number(2) * 1000 }
  }

  resize(pid: number, rows: number, cols: number): number {
    const process = this.byPid.get(pid)
    if (!process) return -ESRCH
    this.agent.send([MSG.RESIZE, process.handle, rows, cols])
    return 0
  }

  update(limits: Partial<BootConfig['limits']>): number {
    const set = (memory: boolean, value: number) =>
      this.agent.request(PATIENCE_MS, MSG.UPDATE, this.number, memory, value).errno
    if (limits.pids !== undefined) {
      const errno = set(false, limits.pids)
      if (errno) return -errno
    }
    if (limits.memory !== undefined) {
      const errno = set(true, Math.ceil(limits.memory / 1024))
      if (errno) return -errno
    }
    return 0
  }

  attach(fd: number): number {
    if (this.pod) return this.pod.attach(fd)
    close(fd)
    return -EOPNOTSUPP
  }

  shutdown(): void {
    this.exitCode = this.byPid.get(1)?.status ?? -1
    if (this.exitCode < 0) this.exitCode = KILLED
  }

  /* ---- What the agent tells. ---- */

  output(handle: number, stream: number, bytes: Buffer): void {
    if (stream < 1 || stream > 3) throw new WireError(`stream ${stream}`)
    this.byHandle.get(handle)?.streams.output(stream, bytes)
  }

  consumed(handle: number, count: number): void {
    this.byHandle.get(handle)?.streams.consumed(count)
  }

  exited(handle: number, status: number): void {
    const process = this.byHandle.get(handle)
    if (!process || process.status >= 0) return
    process.status = status
    if (status === KILLED) this.loop.after(KILLED_FLUSH_MS, () => this.settle(process))
    this.finish()
  }

  gone(reason: string): void {
    this.failure = reason
    // What has come of a process that has ended is still written.
    if (this.exitCode < 0 && (this.byPid.get(1)?.status ?? -1) < 0) this.exitCode = KILLED
  }

  /** Tells those who wait for processes that have ended and whose output is written. */
  private finish(): void {
    for (const process of this.byHandle.values())
      if (process.status >= 0 && !process.streams.pending) this.settle(process)
  }

  private settle(process: GuestProcess): void {
    if (!this.byHandle.delete(process.handle)) return
    process.streams.dispose()
    const isInit = process.handle === handleOf(this.number, INIT_HANDLE)
    if (isInit) this.runState = 'stopped'
    for (const callback of process.callbacks.splice(0)) callback(process.status)
    if (isInit && process.pid === 1) this.exitCode = process.status
  }
}
