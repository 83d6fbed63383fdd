/** Patched call sites as bytes: which sites are taken, and that every state between two stores is right. */
import { expect, test } from 'vitest'
import {
  entryBytes,
  mendSite,
  PATCH_BASE,
  PATCH_CALL,
  PATCH_ENTRY_SIZE,
  PATCH_GS_LOAD,
  PATCH_RETURN,
  patchSite,
} from '../../sentry/platform/systrap/amd64/call-site.ts'

const START = 0x7f00_0000_0000
const ENTRY = PATCH_BASE + 3 * PATCH_ENTRY_SIZE
const MOV_SYSCALL = [0xb8, 0x6e, 0, 0, 0, 0x0f, 0x05]
const NOP9 = [0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0]

/** `bytes` at `at` in 256 bytes of "add %al, (%rax)". */
function code(at: number, bytes: number[], more: [number, number[]][] = []): Uint8Array {
  const all = new Uint8Array(256)
  all.set(bytes, at)
  for (const [where, what] of more) all.set(what, where)
  return all
}

test('a call beside padding becomes a short jump into it', () => {
  const text = code(100, [0x31, 0xc0, 0x0f, 0x05], [[118, [0xc3, ...NOP9]]])
  const patch = patchSite(text, START, START + 102, ENTRY)!
  expect(patch.number).toBe(-1)
  expect(patch.stores.map(({ addr, bytes }) => [addr - START, bytes])).toEqual([
    [119, [0xeb, 7]],
    [121, [0xff, 0x24, 0x25, ENTRY & 0xff, (ENTRY >> 8) & 0xff, 0x06, 0]],
    [102, [0xeb, 121 - 104]],
  ])
})

test('padding that code runs into, is too short, or ends nowhere in particular is left alone', () => {
  const call = [0x90, 0x90, 0x0f, 0x05]
  expect(patchSite(code(100, call, [[118, [0x90, ...NOP9]]]), START, START + 102, ENTRY)).toBeNull()
  expect(
    patchSite(code(100, call, [[121, [0xc3, 0x0f, 0x1f, 0x40, 0, 0x66, 0x90]]]), START, START + 102, ENTRY),
  ).toBeNull()
  expect(patchSite(code(100, call, [[116, [0xc3, ...NOP9]]]), START, START + 102, ENTRY)).toBeNull()
  expect(patchSite(code(10, call, [[230, [0xc3, ...NOP9]]]), START, START + 12, ENTRY)).toBeNull()
})

test('without padding, the number and the call become the jump; each step faults or is right', () => {
  const text = code(100, MOV_SYSCALL)
  const site = START + 105
  const patch = patchSite(text, START, site, ENTRY)!
  expect(patch.number).toBe(0x6e)
  const seen: string[] = []
  for (const { addr, bytes } of patch.stores) {
    text.set(bytes, addr - START)
    seen.push(Buffer.from(text.subarray(100, 107)).toString('hex'))
  }
  const jump = `ff2425${Buffer.from(Uint32Array.of(ENTRY).buffer).toString('hex')}`
  expect(seen).toEqual([`06${Buffer.from(MOV_SYSCALL.slice(1)).toString('hex')}`, `06${jump.slice(2)}`, jump])
  const done = text.subarray(100, 107)
  expect(mendSite(done, site, ENTRY, site - 5)).toBe(site - 5)
  expect(mendSite(done, site, ENTRY, site)).toBe(ENTRY + PATCH_CALL)
  expect(mendSite(done, site, ENTRY + PATCH_ENTRY_SIZE, site)).toBe(-1)
  expect(mendSite(Uint8Array.of(0, 0, 0, 0, 0, 6, 0), site, ENTRY, site)).toBe(-1)
})

test('what is no call, or cannot be cut, is refused', () => {
  expect(patchSite(code(100, [0x0f, 0x34]), START, START + 100, ENTRY)).toBeNull()
  expect(patchSite(code(100, [0x0f, 0x05]), START, START + 100, ENTRY)).toBeNull()
  expect(patchSite(Uint8Array.of(0x0f), START, START, ENTRY)).toBeNull()
})

test('an entry has its parts where the stub looks for them', () => {
  const bytes = Buffer.from(entryBytes(ENTRY, START + 105, 0x6e))
  expect(bytes.length).toBe(PATCH_ENTRY_SIZE)
  expect(Number(bytes.readBigUInt64LE(0))).toBe(ENTRY + 16)
  expect(Number(bytes.readBigUInt64LE(PATCH_RETURN))).toBe(START + 107)
  expect([...bytes.subarray(PATCH_CALL, PATCH_CALL + 2)]).toEqual([0x0f, 0x05])
  expect([...bytes.subarray(PATCH_GS_LOAD, PATCH_GS_LOAD + 2)]).toEqual([0x49, 0x8b])
  expect(bytes[16]).toBe(0xb8)
  expect(entryBytes(ENTRY, START, -1)[16]).toBe(0x0f)
})
