/**
 * The monitor of a container that joins another one's VM: its sandbox's monitor passes on what it and the agent say to each
 * other (pod.ts). It has a control socket, a gofer, stdio and an end of its own.
 */
import { close } from '../native/host.ts'
import { sendWithFds } from '../native/unix-socket.ts'
import type { BootConfig } from '../sentry/control/protocol.ts'
import { AgentClient } from './agent.ts'
import type { Loop } from './loop.ts'
import { JOIN } from './messages.ts'
import { VmContainer } from './sandbox.ts'
import { readWithin } from './sockets.ts'
import { encode, Fields, FrameReader, type Value } from './wire.ts'

const JOIN_MS = 20_000

function ask(fd: number, ninep: readonly number[]): Value[] | undefined {
  const order = encode([JOIN, ninep.length])
  if (sendWithFds(fd, order, order.length, ninep, 0) < 0) return undefined
  const reader = new FrameReader()
  const chunk = Buffer.alloc(4096)
  for (;;) {
    const n = readWithin(fd, chunk, JOIN_MS)
    if (n <= 0) return undefined
    reader.push(chunk.subarray(0, n))
    const answer = reader.next()
    if (answer) return answer
  }
}

/** The container, created; throws an Error that says why not. */
export function join(boot: BootConfig, loop: Loop): VmContainer {
  const fd = boot.fds.pod!
  const ninep = boot.fds.ninep ?? []
  const container = new VmContainer(boot, loop)
  const gone = `its sandbox ${boot.pod!.sandbox} has ended`
  const answer = ask(fd, ninep)
  for (const there of ninep) close(there)
  if (!answer) throw new Error(gone)
  const f = new Fields(answer)
  const errno = f.u32()
  const text = f.text()
  if (errno) throw new Error(`cannot join sandbox ${boot.pod!.sandbox}: ${text}`)
  container.number = f.u32()
  const sandbox = f.u32()
  const ports = f.list()
  container.agent = new AgentClient(fd, loop, container, gone)
  const error = container.create({ port: (mount) => Number(ports[mount]), sandbox, atOnce: false })
  if (error) throw new Error(error)
  return container
}
