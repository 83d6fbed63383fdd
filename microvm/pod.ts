/**
 * The owner's part of a pod: containers whose monitors are processes of their own but whose VM is this one's. A member's
 * monitor speaks with the agent as if it had the port; here its requests are checked to be about its own container, get
 * sequence numbers of this port, and what the agent says goes to whom it concerns. Each member has ports of its own for its
 * gofer, put into the running VM and taken out again with it.
 *
 * Members share the VM, so the wall between them is the guest's kernel; the checks here keep mistakes apart.
 */
import { close } from '../native/host.ts'
import { ENOSPC, ENOTCONN } from '../sentry/abi/errno.ts'
import type { AgentClient, AgentListener } from './agent.ts'
import { FramePort } from './frame-port.ts'
import { EPOLLHUP, EPOLLIN, type Loop } from './loop.ts'
import { containerOf, FIRST_CONTAINER, JOIN, LAST_CONTAINER, MSG, TARGETS } from './messages.ts'
import { PORT_NUMBERS, type RunningVm } from './vmm.ts'
import { type Encodable, Fields, type Value, WireError } from './wire.ts'

const SIGKILL = 9
/** Requests of one member that are not answered yet. */
const MAX_ASKED = 256
/** QEMU lets go of a port's socket a moment after the port. */
const SETTLE_MS = 50

/** Requests about a container that runs: its number comes first. */
const ABOUT_CONTAINER: ReadonlySet<number> = new Set([
  ...[MSG.START, MSG.EXEC, MSG.SIGNAL, MSG.PROCESSES, MSG.STATS, MSG.FREEZE, MSG.UPDATE],
])
/** Messages about a process: its handle comes first. */
const ABOUT_PROCESS: ReadonlySet<number> = new Set([MSG.INPUT, MSG.CREDIT, MSG.RESIZE, MSG.CLOSE])

class Member {
  container = 0
  ports: number[] = []
  asked = 0
  readonly fds: number[] = []
  readonly port: FramePort
  private readonly pod: Pod

  constructor(fd: number, pod: Pod, loop: Loop) {
    this.pod = pod
    this.port = new FramePort(fd, loop, this, this.fds)
  }

  frame(frame: Value[]): void {
    const f = new Fields(frame)
    const kind = f.u32()
    if (this.container === 0) {
      if (kind !== JOIN || f.u32() !== this.fds.length) throw new WireError('no word of joining')
      this.port.send(this.pod.join(this, this.fds.splice(0)))
    } else if (ABOUT_PROCESS.has(kind)) {
      if (containerOf(f.u32()) !== this.container) throw new WireError('a process of another container')
      this.pod.agent.send(frame)
    } else if (ABOUT_CONTAINER.has(kind) || kind === MSG.CREATE) {
      const seq = f.u32()
      if (kind === MSG.CREATE && containerOf(f.u32()) !== this.container) throw new WireError('a foreign handle')
      if (f.u32() !== this.container) throw new WireError('a foreign container')
      if (++this.asked > MAX_ASKED) throw new WireError('too much at once')
      this.pod.agent.askLater(
        ({ errno, text, values }) => {
          this.asked--
          this.port.send([MSG.REPLY, seq, errno, text, values])
        },
        kind,
        ...frame.slice(2),
      )
    } else throw new WireError(`a message of kind ${kind}`)
  }

  closed(): void {
    close(this.port.fd)
    for (const fd of this.fds) close(fd)
    this.pod.leave(this)
  }
}

export class Pod implements AgentListener {
  agent!: AgentClient
  private readonly own: AgentListener
  private readonly vm: RunningVm
  private readonly loop: Loop
  private readonly members = new Map<number, Member>()
  private lastContainer = FIRST_CONTAINER
  private lastPort: number
  private readonly usedPorts = new Set<number>()

  /** `own`: the listener of the container that the VM was started for. */
  constructor(own: AgentListener, vm: RunningVm, loop: Loop) {
    this.own = own
    this.vm = vm
    this.loop = loop
    this.lastPort = vm.fixedPorts - 1
    if (vm.events >= 0) loop.watch(vm.events, EPOLLIN, { onHostEvents: (events) => this.hear(events) })
  }

  private hear(events: number): void {
    if (events & EPOLLIN) this.vm.hear()
    // QEMU has ended: its pid tells.
    if (events & EPOLLHUP) this.loop.unwatch(this.vm.events)
  }

  /** Somebody wants to be a member and speaks on `fd`, which is taken over. */
  attach(fd: number): number {
    if (this.lastContainer === LAST_CONTAINER) return -ENOSPC
    new Member(fd, this, this.loop)
    return 0
  }

  /** What the new member is told: errno, text, its number, that of the sandbox, its ports. */
  join(member: Member, fds: number[]): Encodable[] {
    try {
      for (const fd of fds) {
        const port = this.freePort()
        if (port < 0) throw new Error('the virtual machine has no more connections for mounts')
        this.vm.connect(port, fd)
        this.usedPorts.add(port)
        member.ports.push(port)
      }
    } catch (error) {
      return [ENOTCONN, (error as Error).message, 0, 0, []]
    } finally {
      for (const fd of fds) close(fd)
    }
    member.container = ++this.lastContainer
    this.members.set(member.container, member)
    return [0, '', member.container, FIRST_CONTAINER, member.ports]
  }

  /** In turns, so that the guest has time to forget what went by a number before. */
  private freePort(): number {
    const { fixedPorts } = this.vm
    for (let i = fixedPorts; i < PORT_NUMBERS; i++) {
      this.lastPort = this.lastPort + 1 < PORT_NUMBERS ? this.lastPort + 1 : fixedPorts
      if (!this.usedPorts.has(this.lastPort)) return this.lastPort
    }
    return -1
  }

  /** Its monitor has ended, and the container with it. */
  leave(member: Member): void {
    if (this.members.delete(member.container))
      this.agent.askLater(() => {}, MSG.SIGNAL, member.container, 1, SIGKILL, TARGETS.all)
    for (const port of member.ports.splice(0)) {
      this.vm.disconnect(port)
      this.usedPorts.delete(port)
    }
    this.tidy()
  }

  private tidy(): void {
    if (!this.vm.tidy()) this.loop.after(SETTLE_MS, () => this.tidy())
  }

  private member(handle: number): FramePort | undefined {
    return this.members.get(containerOf(handle))?.port
  }

  output(handle: number, stream: number, bytes: Buffer): void {
    if (containerOf(handle) === FIRST_CONTAINER) this.own.output(handle, stream, bytes)
    else this.member(handle)?.send([MSG.OUTPUT, handle, stream, bytes])
  }

  consumed(handle: number, count: number): void {
    if (containerOf(handle) === FIRST_CONTAINER) this.own.consumed(handle, count)
    else this.member(handle)?.send([MSG.CONSUMED, handle, count])
  }

  exited(handle: number, status: number): void {
    if (containerOf(handle) === FIRST_CONTAINER) this.own.exited(handle, status)
    else this.member(handle)?.send([MSG.EXIT, handle, status])
  }

  gone(reason: string): void {
    this.own.gone(reason)
  }
}
