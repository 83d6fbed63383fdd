/**
 * Record locks against a model: an array with one owner set per byte.
 */
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { EAGAIN } from '../../sentry/abi/errno.ts'
import { O_RDWR } from '../../sentry/abi/fcntl.ts'
import {
  conflictingRecord,
  F_RDLCK,
  F_UNLCK,
  F_WRLCK,
  flock,
  LOCK_EX,
  LOCK_SH,
  LOCK_UN,
  setRecord,
} from '../../sentry/vfs/locks.ts'
import { open, taskOn, tmpfs, write } from './vfs-support.ts'

it('agrees with a byte-wise model', () => {
  const step = fc.record({
    owner: fc.nat(2),
    type: fc.constantFrom(F_RDLCK, F_WRLCK, F_UNLCK),
    start: fc.nat(19),
    len: fc.integer({ min: 1, max: 20 }),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const t = taskOn(tmpfs())
      write(t, '/f', '')
      const file = open(t, '/f', O_RDWR)
      const owners = [{}, {}, {}]
      const model: (number | undefined)[][] = [[], [], []]
      for (const s of steps) {
        const end = s.start + s.len - 1
        let conflict = false
        for (let b = s.start; b <= end && s.type !== F_UNLCK; b++) {
          for (let o = 0; o < 3; o++) {
            const held = o === s.owner ? undefined : model[o]![b]
            if (held !== undefined && (held === F_WRLCK || s.type === F_WRLCK)) conflict = true
          }
        }
        const ret = setRecord(file.inode, owners[s.owner]!, s.owner, s.type, s.start, end)
        expect(ret).toBe(conflict ? -EAGAIN : 0)
        if (!conflict) for (let b = s.start; b <= end; b++) model[s.owner]![b] = s.type === F_UNLCK ? undefined : s.type
      }
      for (let b = 0; b < 40; b++) {
        const held = model.some((m) => m[b] !== undefined)
        expect(conflictingRecord(file.inode, {}, true, b, b) !== null).toBe(held)
      }
      file.unref()
    }),
    { numRuns: 200 },
  )
})

it('flock belongs to the description', () => {
  const t = taskOn(tmpfs())
  write(t, '/f', '')
  const a = open(t, '/f', O_RDWR)
  const b = open(t, '/f', O_RDWR)
  expect(flock(a, 1, LOCK_SH)).toBe(0)
  expect(flock(b, 2, LOCK_SH)).toBe(0)
  expect(flock(a, 1, LOCK_EX)).toBe(-EAGAIN)
  expect(flock(b, 2, LOCK_UN)).toBe(0)
  expect(flock(a, 1, LOCK_EX)).toBe(0)
  expect(flock(b, 2, LOCK_SH)).toBe(-EAGAIN)
  a.unref()
  expect(flock(b, 2, LOCK_EX)).toBe(0)
  b.unref()
  expect(b.inode.locks).toBe(null)
})
