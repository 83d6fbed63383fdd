/** The control server with clients that behave, and with clients that do not: it answers, hangs up, and keeps nothing. */
import { closeSync, openSync, readdirSync } from 'node:fs'
import fc from 'fast-check'
import { beforeEach, describe, expect, test } from 'vitest'
import { close, poll, read, socketpair, write } from '../../native/host.ts'
import { AF_UNIX, SOCK_NONBLOCK, SOCK_STREAM, sendWithFds } from '../../native/unix-socket.ts'
import { encodeFrame, FrameError, FrameReader } from '../../sentry/control/codec.ts'
import type { ContainerControl, ControlPoller } from '../../sentry/control/control.ts'
import { MAX_FRAME, type ProcessSpec, type Reply, type Request } from '../../sentry/control/protocol.ts'
import { ControlServer } from '../../sentry/control/server.ts'

const SPEC: ProcessSpec = {
  args: ['a'],
  env: [],
  cwd: '/',
  uid: 0,
  gid: 0,
  additionalGids: [],
  umask: -1,
  capabilities: { bounding: [], effective: [], inheritable: [], permitted: [], ambient: [] },
  rlimits: [],
  terminal: false,
  consoleSize: { rows: 0, cols: 0 },
  noNewPrivileges: false,
}

class Recorder implements ContainerControl {
  calls: string[] = []
  exits: ((status: number) => void)[] = []
  state() {
    return 'running' as const
  }
  start() {
    this.calls.push('start')
    return null
  }
  exec(_: ProcessSpec, fds: readonly number[]) {
    this.calls.push(`exec ${fds.length}`)
    for (const fd of fds) close(fd)
    return 7
  }
  signal(pid: number, signal: number, target: string) {
    this.calls.push(`signal ${pid} ${signal} ${target}`)
    return pid === 99 ? -3 : 0
  }
  onExit(pid: number, callback: (status: number) => void) {
    if (pid === 99) return -3
    this.exits.push(callback)
    return 0
  }
  processes() {
    return []
  }
  pause() {
    return 0
  }
  resume() {
    return 0
  }
  stats() {
    return { tasks: 1, syscalls: 2, cpuUserNs: 3, cpuSystemNs: 4 }
  }
  resize() {
    return 0
  }
  update() {
    return 0
  }
  shutdown() {
    this.calls.push('shutdown')
  }
}

class Poller implements ControlPoller {
  readonly handlers = new Map<number, { onHostEvents(events: number): void }>()
  watch(fd: number, _: number, handler: { onHostEvents(events: number): void }) {
    this.handlers.set(fd, handler)
    return 0
  }
  unwatch(fd: number) {
    this.handlers.delete(fd)
  }
  settle() {
    for (let more = true; more; ) {
      more = false
      for (const [fd, handler] of [...this.handlers]) {
        const p = Buffer.alloc(8)
        p.writeInt32LE(fd, 0)
        p.writeInt16LE(1, 4)
        if (poll(p, 1, 0) > 0) {
          more = true
          handler.onHostEvents(p.readInt16LE(6))
        }
      }
    }
  }
}

let control: Recorder
let poller: Poller
beforeEach(() => {
  control = new Recorder()
  poller = new Poller()
})

/** A client whose far end the server has as its owner connection. */
function connect(): { fd: number; ask(r: Request, fds?: number[]): Reply[]; replies(): Reply[]; hungUp(): boolean } {
  const fds = new Int32Array(2)
  socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds)
  const [fd, far] = [fds[0]!, fds[1]!]
  new ControlServer(-1, far, control, poller)
  const reader = new FrameReader()
  const chunk = Buffer.alloc(65536)
  const replies = () => {
    poller.settle()
    for (let n = read(fd, chunk, chunk.length); n > 0; n = read(fd, chunk, chunk.length))
      reader.push(chunk.subarray(0, n))
    const out: Reply[] = []
    for (let r = reader.next(); r !== undefined; r = reader.next()) out.push(r as Reply)
    return out
  }
  return {
    fd,
    replies,
    ask(request, sent = []) {
      const frame = encodeFrame(request)
      sendWithFds(fd, frame, frame.length, sent, 0)
      return replies()
    },
    hungUp: () => {
      poller.settle()
      return read(fd, chunk, 1) === 0
    },
  }
}

const openFds = () => readdirSync('/proc/self/fd').length

test('requests are answered in order, waits when the process ends', () => {
  const c = connect()
  expect(c.ask({ op: 'state' })).toEqual([{ ok: true, value: { state: 'running' } }])
  expect(c.ask({ op: 'wait', pid: 1 })).toEqual([])
  expect(c.ask({ op: 'stats' })).toEqual([{ ok: true, value: { tasks: 1, syscalls: 2, cpuUserNs: 3, cpuSystemNs: 4 } }])
  control.exits[0]!(5)
  expect(c.replies()).toEqual([{ ok: true, value: { status: 5 } }])
  expect(c.ask({ op: 'wait', pid: 99 })).toMatchObject([{ ok: false, errno: -3 }])
  expect(c.ask({ op: 'signal', pid: 99, signal: 9, target: 'process' })).toMatchObject([{ ok: false, errno: -3 }])
  close(c.fd)
})

test('exec takes three descriptors, or one terminal, and nothing leaks when it does not get them', () => {
  const c = connect()
  const file = openSync('/dev/null', 'r')
  const before = openFds()
  expect(c.ask({ op: 'exec', process: SPEC, killOnDisconnect: false }, [file, file, file])).toEqual([
    { ok: true, value: { pid: 7 } },
  ])
  expect(c.ask({ op: 'exec', process: SPEC, killOnDisconnect: false }, [file])).toMatchObject([{ ok: false }])
  expect(c.ask({ op: 'exec', process: { ...SPEC, args: [] }, killOnDisconnect: false }, [file])).toMatchObject([
    { ok: false, error: expect.stringContaining('args') },
  ])
  expect(c.ask({ op: 'state' }, [file, file])).toMatchObject([{ ok: true }])
  expect(control.calls).toEqual(['exec 3'])
  expect(openFds()).toBe(before)
  c.ask({ op: 'state' }, Array(8).fill(file))
  expect(c.hungUp()).toBe(true)
  close(c.fd)
  closeSync(file)
})

test('an owner that goes away ends the sandbox; a bound process goes with its client', () => {
  const c = connect()
  const file = openSync('/dev/null', 'r')
  c.ask({ op: 'exec', process: SPEC, killOnDisconnect: true }, [file, file, file])
  close(c.fd)
  poller.settle()
  expect(control.calls).toEqual(['exec 3', 'signal 7 9 process', 'shutdown'])
  closeSync(file)
})

describe('hostile clients', () => {
  test('a frame that is too long, or empty', () => {
    for (const length of [MAX_FRAME + 1, 0xffffffff, 0]) {
      const c = connect()
      const header = Buffer.alloc(4)
      header.writeUInt32LE(length, 0)
      write(c.fd, header, 4)
      expect(c.hungUp()).toBe(true)
      close(c.fd)
    }
  })

  test('any bytes at all: an answer, or the end of the connection', () => {
    const before = openFds()
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (bytes, framed) => {
        const c = connect()
        const body = Buffer.from(bytes)
        const header = Buffer.alloc(framed ? 4 : 0)
        if (framed) header.writeUInt32LE(body.length, 0)
        write(c.fd, Buffer.concat([header, body]), header.length + body.length)
        try {
          for (const reply of c.replies()) expect(reply.ok).toBe(false)
        } finally {
          close(c.fd)
          poller.settle()
        }
      }),
      { numRuns: 300 },
    )
    expect(openFds()).toBe(before)
  })

  test('any document at all: an answer that says what is wrong', () => {
    const c = connect()
    fc.assert(
      fc.property(
        fc.dictionary(fc.string(), fc.jsonValue()),
        fc.constantFrom('exec', 'signal', 'wait', 'update', 'x'),
        (o, op) => {
          const replies = c.ask({ ...o, op } as unknown as Request)
          expect(replies).toHaveLength(1)
        },
      ),
      { numRuns: 200 },
    )
    close(c.fd)
  })
})

// msgpackr renames a `__proto__` key, on purpose.
const json = fc.jsonValue().filter((v) => !JSON.stringify(v).includes('__proto__'))

test('frames survive any split', () => {
  fc.assert(
    fc.property(fc.array(json, { maxLength: 5 }), fc.integer({ min: 1, max: 7 }), (values, size) => {
      const wrapped = values.map((value) => ({ value }))
      const bytes = Buffer.concat(wrapped.map(encodeFrame))
      const reader = new FrameReader()
      const out: unknown[] = []
      for (let at = 0; at < bytes.length; at += size) {
        reader.push(bytes.subarray(at, at + size))
        for (let v = reader.next(); v !== undefined; v = reader.next()) out.push(v)
      }
      expect(JSON.stringify(out)).toBe(JSON.stringify(wrapped))
    }),
  )
})

test('a frame that is not msgpack is a FrameError', () => {
  const reader = new FrameReader()
  reader.push(Buffer.from([1, 0, 0, 0, 0xd9]))
  expect(() => reader.next()).toThrow(FrameError)
})
