/**
 * The gofer's wire: what is written is read back, and readers keep inside whatever frame they are given.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { checkPath, FrameReader, FrameWriter, HEADER_SIZE, MAX_FRAME, MAX_PATH_BYTES } from '../../gofer/protocol.ts'

type Field =
  | { kind: 'u16' | 'u32' | 'i32' | 'f64'; value: number }
  | { kind: 'text'; value: string }
  | { kind: 'blob'; value: Uint8Array }

const latin1 = fc
  .array(fc.integer({ min: 1, max: 255 }), { maxLength: 300 })
  .map((codes) => String.fromCharCode(...codes))
const field: fc.Arbitrary<Field> = fc.oneof(
  fc.record({ kind: fc.constant('u16' as const), value: fc.nat(0xffff) }),
  fc.record({ kind: fc.constant('u32' as const), value: fc.nat(0xffffffff) }),
  fc.record({ kind: fc.constant('i32' as const), value: fc.integer() }),
  fc.record({ kind: fc.constant('f64' as const), value: fc.double({ noNaN: true }) }),
  fc.record({ kind: fc.constant('text' as const), value: latin1 }),
  fc.record({ kind: fc.constant('blob' as const), value: fc.uint8Array({ maxLength: 300 }) }),
)

function put(w: FrameWriter, f: Field): void {
  if (f.kind === 'text') w.text(f.value)
  else if (f.kind === 'blob') w.blob(f.value)
  else w[f.kind](f.value)
}
function take(r: FrameReader, kind: Field['kind']): unknown {
  return kind === 'text' ? r.text() : kind === 'blob' ? r.blob() : r[kind]()
}

describe('frames', () => {
  it('come back as they were written', () => {
    const bytes = Buffer.alloc(MAX_FRAME + 1)
    const w = new FrameWriter(bytes)
    const r = new FrameReader(bytes)
    fc.assert(
      fc.property(fc.nat(0xffffffff), fc.array(field, { maxLength: 20 }), (id, fields) => {
        w.request(id, 7, 9)
        for (const f of fields) put(w, f)
        expect(w.ok).toBe(true)
        r.start(w.pos)
        expect([r.u32(), r.u16(), r.u16()]).toEqual([id, 7, 9])
        for (const f of fields) expect(take(r, f.kind)).toEqual(f.value)
        expect(r.complete).toBe(true)
      }),
    )
  })

  it('never make a reader leave them', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 200 }),
        fc.array(fc.constantFrom<Field['kind']>('u16', 'u32', 'i32', 'f64', 'text', 'blob'), { maxLength: 20 }),
        (content, kinds) => {
          const bytes = Buffer.alloc(1000, 0xee)
          bytes.set(content)
          const r = new FrameReader(bytes)
          r.start(content.length)
          for (const kind of kinds) {
            const value = take(r, kind)
            expect(r.pos).toBeLessThanOrEqual(content.length)
            if (typeof value === 'string') expect(value).not.toContain('\0')
          }
        },
      ),
    )
  })

  it('say so when they are full', () => {
    const w = new FrameWriter(Buffer.alloc(MAX_FRAME))
    w.request(1, 2, 3).blob(new Uint8Array(MAX_FRAME - HEADER_SIZE - 2))
    expect([w.ok, w.left]).toEqual([true, 0])
    w.u16(0)
    expect(w.ok).toBe(false)
    expect(w.request(1, 2, 3).text('x'.repeat(70_000)).ok).toBe(false)
  })
})

describe('checkPath', () => {
  const check = (s: string) => checkPath(Buffer.from(s, 'latin1'), 0, s.length)

  it('takes just what is a path of plain components', () => {
    const component = fc.oneof(fc.constantFrom('.', '..', '', '...', 'a', '.a', '..b', '\xff'), latin1)
    fc.assert(
      fc.property(fc.array(component, { minLength: 1, maxLength: 5 }), (components) => {
        const parts = components.join('/').split('/')
        const bad = parts.length > 1 || parts[0] !== '' ? parts.some((c) => c === '' || c === '.' || c === '..') : false
        const long = parts.some((c) => c.length > 255)
        expect(check(parts.join('/')) === 0).toBe(!bad && !long)
      }),
    )
    expect(check('')).toBe(0)
    expect(check('a\0b')).toBe(22)
    expect(check('x/'.repeat(MAX_PATH_BYTES))).toBe(36)
  })
})
