/** The owner's part of a pod: what members may say, who hears what the agent says, and what is given back in the end. */
import { writeSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { AgentClient, type AgentListener } from '../../microvm/agent.ts'
import { Loop } from '../../microvm/loop.ts'
import { FIRST_CONTAINER, handleOf, JOIN, MSG } from '../../microvm/messages.ts'
import { Pod } from '../../microvm/pod.ts'
import { readWithin, socketPair } from '../../microvm/sockets.ts'
import type { RunningVm } from '../../microvm/vmm.ts'
import { type Encodable, encode, FrameReader, type Value } from '../../microvm/wire.ts'
import { close } from '../../native/host.ts'
import { sendWithFds } from '../../native/unix-socket.ts'

const REPLY_OK = [0, '', []] as const

/** The far end of a connection. */
class Peer {
  readonly fd: number
  private readonly reader = new FrameReader()
  constructor(fd: number) {
    this.fd = fd
  }
  send(message: readonly Encodable[], fds: number[] = []): void {
    const frame = encode(message)
    if (fds.length) sendWithFds(this.fd, frame, frame.length, fds, 0)
    else writeSync(this.fd, frame)
  }
  /** The next frame with bytes as text; null: closed; undefined: nothing came. */
  next(): Value[] | null | undefined {
    const chunk = Buffer.alloc(65536)
    for (;;) {
      const frame = this.reader.next()
      if (frame)
        return JSON.parse(JSON.stringify(frame, (_, v) => (v?.type === 'Buffer' ? String(Buffer.from(v.data)) : v)))
      const n = readWithin(this.fd, chunk, 0)
      if (n === 0) return null
      if (n < 0) return undefined
      this.reader.push(chunk.subarray(0, n))
    }
  }
}

describe('a pod', () => {
  let loop: Loop
  let pod: Pod
  let agent: Peer
  let calls: string[]
  let full: number

  const own: AgentListener = {
    output: (handle) => void calls.push(`output ${handle}`),
    consumed: () => {},
    exited: (handle, status) => void calls.push(`exited ${handle} ${status}`),
    gone: (reason) => void calls.push(`gone: ${reason}`),
  }
  const vm: RunningVm = {
    pid: 1,
    ends: null,
    fixedPorts: 4,
    events: -1,
    hear() {},
    connect(port) {
      if (port >= full) throw new Error('no room')
      calls.push(`connect ${port}`)
    },
    disconnect: (port) => void calls.push(`disconnect ${port}`),
    tidy: () => true,
  }

  /** Serves until nothing has happened for a while. */
  function settle(): void {
    let over = false
    loop.after(20, () => {
      over = true
    })
    loop.run(() => over)
  }
  function attach(): Peer {
    const [here, there] = socketPair()
    expect(pod.attach(there)).toBe(0)
    return new Peer(here)
  }
  function member(): Peer {
    const peer = attach()
    const [a, b] = socketPair()
    peer.send([JOIN, 2], [a, b])
    settle()
    close(a)
    close(b)
    return peer
  }

  beforeEach(() => {
    loop = new Loop()
    calls = []
    full = 64
    const [here, there] = socketPair()
    pod = new Pod(own, vm, loop)
    pod.agent = new AgentClient(there, loop, pod)
    agent = new Peer(here)
  })
  afterEach(() => loop.dispose())

  test('members get numbers, ports of their own, answers to their own questions, and what concerns them', () => {
    const one = member()
    const two = member()
    expect(one.next()).toEqual([0, '', 2, FIRST_CONTAINER, [4, 5]])
    expect(two.next()).toEqual([0, '', 3, FIRST_CONTAINER, [6, 7]])
    one.send([MSG.START, 70, 2])
    two.send([MSG.STATS, 70, 3])
    settle()
    const asked = [agent.next()!, agent.next()!]
    expect(asked.map((m) => [m[0], m[2]])).toEqual([
      [MSG.START, 2],
      [MSG.STATS, 3],
    ])
    for (const m of asked) agent.send([MSG.REPLY, m[1] as number, 0, String(m[2]), [m[2] as number]])
    agent.send([MSG.OUTPUT, handleOf(3, 1), 1, 'text'])
    agent.send([MSG.EXIT, handleOf(2, 1), 9])
    agent.send([MSG.EXIT, handleOf(FIRST_CONTAINER, 1), 8])
    agent.send([MSG.EXIT, handleOf(77, 1), 7])
    settle()
    expect(one.next()).toEqual([MSG.REPLY, 70, 0, '2', [2]])
    expect(one.next()).toEqual([MSG.EXIT, handleOf(2, 1), 9])
    expect(two.next()).toEqual([MSG.REPLY, 70, 0, '3', [3]])
    expect(two.next()).toEqual([MSG.OUTPUT, handleOf(3, 1), 1, 'text'])
    expect([one.next(), two.next()]).toEqual([undefined, undefined])
    expect(calls.slice(-1)).toEqual([`exited ${handleOf(FIRST_CONTAINER, 1)} 8`])
  })

  test('one that goes is killed inside and gives its ports back', () => {
    const one = member()
    close(one.fd)
    settle()
    expect(agent.next()!.slice(2)).toEqual([2, 1, 9, 2])
    expect(calls.slice(-2)).toEqual(['disconnect 4', 'disconnect 5'])
    full = 7
    const two = attach()
    const [a, b] = socketPair()
    two.send([JOIN, 2], [a, b])
    settle()
    // Room for one of two: what it had got goes back with it.
    expect(two.next()!.slice(1)).toEqual(['no room', 0, 0, []])
    close(two.fd)
    settle()
    expect(calls.slice(-1)).toEqual(['disconnect 6'])
  })

  const handle = handleOf(2, 1)
  test.each<[string, Encodable[]]>([
    ['another container', [MSG.SIGNAL, 1, 1, 1, 9, 2]],
    ['another container’s process', [MSG.INPUT, handleOf(1, 1), 'x']],
    ['a container made for another', [MSG.CREATE, 1, handle, 3]],
    ['a handle of another', [MSG.CREATE, 1, handleOf(3, 1), 2]],
    ['the clock', [MSG.WAKE, 1, 0, 0, 'x'.repeat(64)]],
    ['the network', [MSG.NETWORK, 1, '', 0, [], []]],
    ['joining twice', [JOIN, 0]],
    ['a reply', [MSG.REPLY, 1, ...REPLY_OK]],
    ['nothing', []],
    ['words', ['kind']],
    ['a list', [[MSG.START]]],
    ['a container that is text', [MSG.START, 1, 'a']],
  ])('a member that speaks of %s is cut off, and the agent hears its end alone', (_, message) => {
    const one = member()
    one.next()
    one.send(message)
    settle()
    expect(one.next()).toBeNull()
    expect(agent.next()!.slice(2)).toEqual([2, 1, 9, 2])
    expect(agent.next()).toBeUndefined()
    expect(calls.filter((c) => c.startsWith('gone'))).toEqual([])
  })

  test('before it has joined, one says that and nothing else; and brings what it says', () => {
    for (const message of [[MSG.START, 1, 1], [JOIN, 1], [], [JOIN, 'x']]) {
      const one = attach()
      one.send(message)
      settle()
      expect(one.next()).toBeNull()
    }
    expect(agent.next()).toBeUndefined()
  })

  test('mutated frames cut their sender off or reach the agent as its own', () => {
    let state = 99
    const rnd = (n: number) => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0
      return (state >>> 8) % n
    }
    for (let n = 0; n < 60; n++) {
      const one = member()
      one.next()
      const container = FIRST_CONTAINER + 1 + n
      const frame = encode([MSG.EXEC, 5, container, handleOf(container, 2), ['a', ['b'], 1, 2, 3]])
      for (let m = rnd(4); m >= 0; m--) frame[rnd(frame.length)] = rnd(256)
      writeSync(one.fd, frame)
      close(one.fd)
    }
    settle()
    for (let m = agent.next(); m; m = agent.next()) expect(m[2]).toBeGreaterThan(FIRST_CONTAINER)
    expect(calls.filter((c) => c.startsWith('gone'))).toEqual([])
  }, 30_000)
})
