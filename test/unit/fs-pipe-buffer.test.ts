import fc from 'fast-check'
import { expect, test } from 'vitest'
import { EBUSY } from '../../sentry/abi/errno.ts'
import { PAGE, PipeBuffer } from '../../sentry/fs/pipe-buffer.ts'
import { KernelIovIter } from '../../sentry/mm/iov-iter.ts'

const bytes = (n: number, first = 0): Uint8Array => Uint8Array.from({ length: n }, (_, i) => (first + i) & 0xff)
const write = (p: PipeBuffer, data: Uint8Array, packets = false): number => p.write(new KernelIovIter(data), packets)
function read(p: PipeBuffer, n: number): Uint8Array {
  const out = new Uint8Array(n)
  const got = p.read(new KernelIovIter(out))
  return out.subarray(0, Math.max(0, got))
}

test('small writes share a page, larger ones take pages of their own', () => {
  const p = new PipeBuffer(4)
  for (let i = 0; i < 40; i++) expect(write(p, bytes(100))).toBe(100)
  expect(p.space).toBe(3 * PAGE)
  expect(write(p, bytes(97))).toBe(97)
  // 97 more do not fit behind 4097 bytes: a page each time.
  expect(p.space).toBe(2 * PAGE)
  expect(write(p, bytes(3 * PAGE))).toBe(2 * PAGE)
  expect(p.full).toBe(true)
  expect(write(p, bytes(PAGE))).toBe(0)
})

test('packets keep their boundaries; the rest of a packet that is read in part is lost', () => {
  const p = new PipeBuffer(4)
  write(p, bytes(10), true)
  write(p, bytes(5, 50), true)
  expect(read(p, 3)).toEqual(bytes(3))
  expect(read(p, 100)).toEqual(bytes(5, 50))
  expect(p.empty).toBe(true)
})

test('resizing keeps what is queued, and refuses what does not fit', () => {
  const p = new PipeBuffer(16)
  write(p, bytes(2 * PAGE + 7))
  read(p, 5)
  expect(p.resize(2)).toBe(-EBUSY)
  expect(p.resize(4)).toBe(0)
  expect(p.capacity).toBe(4 * PAGE)
  expect(read(p, 3 * PAGE)).toEqual(bytes(2 * PAGE + 7).subarray(5))
})

test('what goes in comes out, in order, whatever the operations', () => {
  const operation = fc.oneof(
    fc.record({ kind: fc.constant('write'), n: fc.integer({ min: 1, max: 3 * PAGE }) }),
    fc.record({ kind: fc.constant('put'), n: fc.integer({ min: 1, max: 2 * PAGE }) }),
    fc.record({ kind: fc.constant('read'), n: fc.integer({ min: 1, max: 3 * PAGE }) }),
    fc.record({ kind: fc.constant('splice'), n: fc.integer({ min: 1, max: 2 * PAGE }) }),
    fc.record({ kind: fc.constant('resize'), n: fc.constantFrom(2, 4, 8, 16) }),
  )
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 40 }), (operations) => {
      const p = new PipeBuffer(4)
      let next = 0
      let expected = 0
      const check = (out: Uint8Array): void => {
        for (const byte of out) expect(byte).toBe(expected++ % 251)
      }
      for (const { kind, n } of operations) {
        const data = Uint8Array.from({ length: n }, (_, i) => (next + i) % 251)
        if (kind === 'write') next += write(p, data)
        else if (kind === 'put') next += p.put(data, 0, n)
        else if (kind === 'read') check(read(p, n))
        else if (kind === 'resize') p.resize(n)
        else {
          const out = new Uint8Array(n)
          const got = p.peek(out, 0, n)
          check(out.subarray(0, got))
          p.discard(got)
        }
        expect(p.bytes).toBe(next - expected)
      }
    }),
  )
})
