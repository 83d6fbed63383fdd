/**
 * What the control server needs from the kernel. The server decodes and checks requests; the kernel implements this and
 * never sees a frame. Nothing here may block: replies that take time come through callbacks from the kernel's loop.
 */
import type { BootConfig, ProcessInfo, ProcessSpec, RunState, SignalTarget, Stats } from './protocol.ts'

/** −errno, and the sentence for the user: `exec: "foo": executable file not found in $PATH`. */
export interface ControlError {
  errno: number
  error: string
}

export interface ContainerControl {
  state(): RunState
  /** Runs the init process that boot has prepared. null: done. */
  start(): ControlError | null
  /**
   * A further process. Takes over `fds` (closes them when it fails, too): three for stdin, stdout and stderr, or one
   * host terminal in raw mode when `spec.terminal`. Returns its pid.
   */
  exec(spec: ProcessSpec, fds: readonly number[]): number | ControlError
  /** ≥ 0 or −errno. Signal 0 asks whether it exists. `all` ignores pid. */
  signal(pid: number, signal: number, target: SignalTarget): number
  /**
   * `callback` gets what the shell would see (0–255, 128 + n for signal n) once process `pid` has ended, also when it has
   * already (init and exec'd processes are remembered). −ESRCH: no such process.
   */
  onExit(pid: number, callback: (status: number) => void): number
  processes(): ProcessInfo[]
  pause(): number
  resume(): number
  stats(): Stats
  /** Size of the terminal that init (1) or an exec'd process was started with. */
  resize(pid: number, rows: number, cols: number): number
  update(limits: Partial<BootConfig['limits']>): number
  /** Another container's monitor joins on `fd`, which is taken over. ≥ 0 or −errno. */
  attach?(fd: number): number
  /** Ends the sandbox: all guest processes, then the sentry, with init's status or 137. */
  shutdown(): void
}

/** The kernel's poller of host descriptors (sentry/kernel/host-poll.ts), as much of it as the server uses. */
export interface ControlPoller {
  /** Level-triggered unless `events` says otherwise. ≥ 0 or −errno. */
  watch(fd: number, events: number, handler: { onHostEvents(events: number): void }): number
  unwatch(fd: number): void
}

export const EPOLLIN = 1
