/**
 * The pure parts of sockets and IPC: the TCP byte queue against a model, Linux's packet sizes, netlink encoding, IPC ids.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { KernelIovIter } from '../../sentry/mm/iov-iter.ts'
import { ByteQueue } from '../../sentry/net/byte-queue.ts'
import { NetlinkWriter } from '../../sentry/net/netlink/netlink-message.ts'
import { truesize } from '../../sentry/net/unix/packet.ts'

describe('ByteQueue', () => {
  const step = fc.oneof(
    fc.record({ op: fc.constant('append' as const), n: fc.integer({ min: 0, max: 9000 }) }),
    fc.record({ op: fc.constant('read' as const), n: fc.integer({ min: 0, max: 9000 }) }),
    fc.record({ op: fc.constant('peek' as const), n: fc.integer({ min: 0, max: 9000 }) }),
    fc.record({ op: fc.constant('discard' as const), n: fc.integer({ min: 0, max: 300 }) }),
  )

  it('holds what an array would hold', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const queue = new ByteQueue()
        let model = Buffer.alloc(0)
        let next = 0
        for (const { op, n } of steps) {
          if (op === 'append') {
            const data = Buffer.alloc(n, 0).map(() => next++ & 255)
            expect(queue.append(new KernelIovIter(data), n)).toBe(n)
            model = Buffer.concat([model, data])
            if (n > 0) expect(queue.lastByte()).toBe(model.at(-1))
          } else if (op === 'discard') {
            queue.discard(n)
            model = model.subarray(n)
          } else {
            const out = Buffer.alloc(n)
            const skip = op === 'peek' ? Math.min(7, model.length) : 0
            const got =
              op === 'peek' ? queue.peek(new KernelIovIter(out), n, skip) : queue.read(new KernelIovIter(out), n)
            expect(out.subarray(0, got)).toEqual(Buffer.from(model.subarray(skip, skip + got)))
            expect(got).toBe(Math.min(n, model.length - skip))
            if (op === 'read') model = model.subarray(got)
          }
          expect(queue.length).toBe(model.length)
        }
      }),
    )
  })
})

describe('truesize', () => {
  it('is what Linux charges: a byte costs 768, so 278 of them fill the default buffer', () => {
    expect(truesize(1, true)).toBe(768)
    expect(Math.ceil(212992 / truesize(1, true))).toBe(278)
    expect(truesize(4096, false)).toBe(256 + 8192)
  })
})

describe('NetlinkWriter', () => {
  it('pads attributes and patches the length', () => {
    const b = new NetlinkWriter().begin(16, 2, 7, 9).u32(1).attrString(3, 'lo').attrU8(16, 5).end()
    const out = b.take()
    expect(out.readUInt32LE(0)).toBe(out.length)
    expect(out.length).toBe(16 + 4 + 8 + 8)
    expect(out.readUInt16LE(20)).toBe(7)
    expect(out.toString('latin1', 24, 27)).toBe('lo\0')
    expect(b.take().length).toBe(0)
  })
})
