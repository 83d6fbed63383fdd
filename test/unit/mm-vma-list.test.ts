/** The VMA list against a model: an array with one entry per page. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Vma } from '../../sentry/mm/vma.ts'
import { findFree, mergeAround, splitAt, vmaAfter } from '../../sentry/mm/vma-list.ts'

const PAGE = 4096
const PAGES = 64

function insert(vmas: Vma[], start: number, end: number, prot: number): void {
  const first = splitAt(vmas, start)
  const last = splitAt(vmas, end)
  vmas.splice(first, last - first)
  const at = vmaAfter(vmas, start)
  vmas.splice(at, 0, new Vma(start, end, prot, false, null, 0, ''))
  mergeAround(vmas, at)
}

function remove(vmas: Vma[], start: number, end: number): void {
  const first = splitAt(vmas, start)
  const last = splitAt(vmas, end)
  vmas.splice(first, last - first)
}

const operation = fc.record({
  at: fc.nat(PAGES - 1),
  len: fc.integer({ min: 1, max: 8 }),
  prot: fc.constantFrom(1, 3, 5),
  map: fc.boolean(),
})

test('map and unmap keep the list sorted, disjoint, merged and equal to the model', () => {
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
      const vmas: Vma[] = []
      const model = new Array<number>(PAGES + 8).fill(0)
      for (const { at, len, prot, map } of operations) {
        if (map) insert(vmas, at * PAGE, (at + len) * PAGE, prot)
        else remove(vmas, at * PAGE, (at + len) * PAGE)
        model.fill(map ? prot : 0, at, at + len)
      }
      const seen = new Array<number>(PAGES + 8).fill(0)
      for (const [i, v] of vmas.entries()) {
        const next = vmas[i + 1]
        if (next !== undefined) expect(v.end < next.start || (v.end === next.start && v.prot !== next.prot)).toBe(true)
        seen.fill(v.prot, v.start / PAGE, v.end / PAGE)
      }
      expect(seen).toEqual(model)
    }),
  )
})

test('findFree gives the highest gap that is large enough', () => {
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 30 }), fc.integer({ min: 1, max: 10 }), (operations, want) => {
      const vmas: Vma[] = []
      const used = new Array<boolean>(PAGES + 8).fill(false)
      for (const { at, len, prot } of operations) {
        insert(vmas, at * PAGE, (at + len) * PAGE, prot)
        used.fill(true, at, at + len)
      }
      let expected = -1
      for (let at = PAGES - want; at >= 4 && expected < 0; at--)
        if (!used.slice(at, at + want).includes(true)) expected = at * PAGE
      expect(findFree(vmas, want * PAGE, 4 * PAGE, PAGES * PAGE)).toBe(expected)
    }),
  )
})
