/**
 * A sentry without a kernel, for tests of the CLI: the real control server, over "programs" that are only words:
 * `exit N`, `sleep`, `echo TEXT`, `missing`. Stands in for dist/sentry.cjs.
 */
import { readFileSync, writeSync } from 'node:fs'
import { close, poll } from '../../native/host.ts'
import type { ContainerControl, ControlError, ControlPoller } from '../../sentry/control/control.ts'
import type { BootConfig, ProcessSpec, RunState } from '../../sentry/control/protocol.ts'
import { ControlServer } from '../../sentry/control/server.ts'

const boot = JSON.parse(readFileSync(Number(process.argv[process.argv.indexOf('--boot-fd') + 1]), 'utf8')) as BootConfig

class FakePoller implements ControlPoller {
  readonly handlers = new Map<number, { onHostEvents(events: number): void }>()
  watch(fd: number, _events: number, handler: { onHostEvents(events: number): void }): number {
    this.handlers.set(fd, handler)
    return 0
  }
  unwatch(fd: number): void {
    this.handlers.delete(fd)
  }
  turn(): void {
    const fds = [...this.handlers.keys()]
    const set = Buffer.alloc(8 * fds.length)
    for (const [i, fd] of fds.entries()) {
      set.writeInt32LE(fd, i * 8)
      set.writeInt16LE(1, i * 8 + 4)
    }
    if (poll(set, fds.length, 0) <= 0) return
    for (const [i, fd] of fds.entries()) {
      if (set.readInt16LE(i * 8 + 6)) this.handlers.get(fd)?.onHostEvents(1)
    }
  }
}

interface FakeProcess {
  pid: number
  status: number | null
  waiters: ((status: number) => void)[]
}

class FakeControl implements ContainerControl {
  private run: RunState = 'created'
  private readonly processes_ = new Map<number, FakeProcess>()
  private nextPid = 1

  state(): RunState {
    return this.run
  }
  start(): ControlError | null {
    this.run = 'running'
    this.launch(boot.process, [0, 1, 2])
    return null
  }
  private launch(spec: ProcessSpec, fds: readonly number[]): number {
    const p: FakeProcess = { pid: this.nextPid++, status: null, waiters: [] }
    this.processes_.set(p.pid, p)
    const [word, arg] = spec.args
    if (word === 'echo') writeSync(fds.length === 1 ? fds[0]! : fds[1]!, `${arg}\n`)
    if (word !== 'sleep') setTimeout(() => this.end(p, word === 'exit' ? Number(arg) : 0), 20)
    return p.pid
  }
  private end(p: FakeProcess, status: number): void {
    if (p.status !== null) return
    p.status = status
    for (const waiter of p.waiters) waiter(status)
    if (p.pid === 1) process.exit(status)
  }
  exec(spec: ProcessSpec, fds: readonly number[]): number | ControlError {
    const missing = spec.args[0] === 'missing'
    const pid = missing ? 0 : this.launch(spec, fds)
    for (const fd of fds) close(fd)
    return missing ? { errno: -2, error: 'exec: "missing": executable file not found in $PATH' } : pid
  }
  signal(pid: number, signal: number, target: string): number {
    if (this.run === 'created') process.exit(128 + signal)
    const p = this.processes_.get(target === 'all' ? 1 : pid)
    if (!p || p.status !== null) return -3
    if (signal > 0) setTimeout(() => this.end(p, 128 + signal), 5)
    return 0
  }
  onExit(pid: number, callback: (status: number) => void): number {
    const p = this.processes_.get(pid)
    if (!p) return -3
    if (p.status !== null) callback(p.status)
    else p.waiters.push(callback)
    return 0
  }
  processes() {
    return [...this.processes_.values()]
      .filter((p) => p.status === null)
      .map((p) => ({
        pid: p.pid,
        ppid: p.pid === 1 ? 0 : 1,
        hostPid: process.pid,
        uid: 0,
        state: 'S',
        threads: 1,
        cpuMs: 61_000,
        startTime: 0,
        tty: '',
        command: 'word',
      }))
  }
  pause(): number {
    this.run = 'paused'
    return 0
  }
  resume(): number {
    this.run = 'running'
    return 0
  }
  stats() {
    return { tasks: this.processes().length, syscalls: 5, cpuUserNs: 1, cpuSystemNs: 2 }
  }
  resize(): number {
    return 0
  }
  update(): number {
    return 0
  }
  shutdown(): void {
    process.exit(137)
  }
}

const poller = new FakePoller()
const control = new FakeControl()
new ControlServer(boot.fds.control, boot.fds.owner, control, poller)
const missing = boot.process.args[0] === 'missing'
const ready = missing ? { ok: false, error: 'exec: "missing": executable file not found in $PATH' } : { ok: true }
writeSync(boot.fds.ready, `${JSON.stringify(ready)}\n`)
close(boot.fds.ready)
if (missing) process.exit(1)
if (boot.autoStart) control.start()
setInterval(() => poller.turn(), 1)
