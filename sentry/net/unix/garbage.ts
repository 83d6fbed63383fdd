/**
 * Sockets that only messages refer to, which only such sockets could receive (Linux: net/unix/garbage.c): a socket sent
 * over itself and closed. Their queues are emptied, which closes what is in them.
 */
import { socketsInFlight } from '../scm.ts'
import type { Packet } from './packet.ts'
import { UnixSocket } from './unix-socket.ts'

let running = false

/** Calls `f` for each AF_UNIX socket in the messages that `s`, or a connection nobody accepted from it, holds. */
function eachChild(s: UnixSocket, f: (child: UnixSocket) => void): void {
  for (let p: Packet | null = s.received.head; p !== null; p = p.next) {
    if (p.files !== null) for (const file of p.files.files) if (file instanceof UnixSocket) f(file)
  }
  for (const embryo of s.pending) eachChild(embryo, f)
}

/** Run when a socket is closed while sockets are in flight. */
export function collectGarbage(): void {
  if (running || socketsInFlight.size === 0) return
  /** Candidates, with the references to each that are not known to come from a candidate's queue. */
  const outside = new Map<UnixSocket, number>()
  for (const [s, n] of socketsInFlight) if (s.useCount === n) outside.set(s as UnixSocket, n)
  if (outside.size === 0) return
  for (const s of outside.keys()) {
    eachChild(s, (child) => {
      const n = outside.get(child)
      if (n !== undefined) outside.set(child, n - 1)
    })
  }
  // What somebody else can still receive is alive, and so is what can be received from it.
  const alive = [...outside].filter(([, n]) => n > 0).map(([s]) => s)
  for (const s of alive) outside.delete(s)
  for (let s = alive.pop(); s !== undefined; s = alive.pop()) {
    eachChild(s, (child) => {
      if (outside.delete(child)) alive.push(child)
    })
  }
  running = true
  for (const s of outside.keys()) {
    s.received.purge()
    for (const embryo of s.pending) embryo.received.purge()
  }
  running = false
}
