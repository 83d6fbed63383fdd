import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { SI_QUEUE, SI_TIMER, SIGCHLD, SIGSEGV, SIGUSR1 } from '../../sentry/abi/signal.ts'
import { decodeSigInfo, encodeSigInfo, makeInfo } from '../../sentry/kernel/siginfo.ts'
import { SigSet } from '../../sentry/kernel/sigset.ts'
import { type FaultState, faultCode } from '../../sentry/platform/amd64/fault-code.ts'

const bytes = (info: ReturnType<typeof makeInfo>): DataView => {
  const out = new Uint8Array(128)
  encodeSigInfo(info, out, 0)
  return new DataView(out.buffer)
}

describe('siginfo', () => {
  it('puts each member where its union has it', () => {
    const child = Object.assign(makeInfo(SIGCHLD, 1), { pid: 7, uid: 8, status: 9, utime: 10, stime: 11 })
    const v = bytes(child)
    expect([0, 8, 16, 20, 24, 32, 40].map((at) => v.getInt32(at, true))).toEqual([SIGCHLD, 1, 7, 8, 9, 10, 11])
    const timer = bytes(Object.assign(makeInfo(SIGUSR1, SI_TIMER), { id: 3, status: 4, valueLo: 5, valueHi: 6 }))
    expect([16, 20, 24, 28].map((at) => timer.getInt32(at, true))).toEqual([3, 4, 5, 6])
    const fault = bytes(Object.assign(makeInfo(SIGSEGV, 1), { valueLo: 0xfffff010, valueHi: 0xffff8000 }))
    expect(fault.getBigUint64(16, true)).toBe(0xffff8000fffff010n)
  })
  it('keeps a queued value', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 128, maxLength: 128 }), (raw) => {
        const given = raw.slice()
        const info = decodeSigInfo(given, 34)
        const out = new Uint8Array(128)
        encodeSigInfo(info, out, 0)
        expect(new DataView(out.buffer).getInt32(0, true)).toBe(34)
        expect(out.subarray(8, info.code === SI_QUEUE ? 32 : 128)).toEqual(
          given.subarray(8, info.code === SI_QUEUE ? 32 : 128),
        )
      }),
    )
  })
})

describe('signal sets', () => {
  it('agree with a set of numbers', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 1, max: 64 }))), (ops) => {
        const set = new SigSet()
        const model = new Set<number>()
        for (const [add, sig] of ops) {
          if (add) set.add(sig)
          else set.delete(sig)
          if (add) model.add(sig)
          else model.delete(sig)
        }
        for (let sig = 1; sig <= 64; sig++) expect(set.has(sig)).toBe(model.has(sig))
        expect(set.empty).toBe(model.size === 0)
      }),
    )
  })
})

describe('error codes of faults', () => {
  const at = (code: number[], more: Partial<FaultState> = {}): [number, number] => {
    const state: FaultState = {
      signo: SIGSEGV,
      code: 1,
      addr: 0x1000,
      rip: 0x400000,
      rdi: 0x1000,
      rsp: 0x7000,
      present: false,
      bytes: Uint8Array.from(code),
      ...more,
    }
    const f = faultCode(state)
    return [f.trapno, f.errorCode]
  }
  it.each([
    ['mov eax, [rdi]', [0x8b, 0x07], 4],
    ['mov [rdi], eax', [0x89, 0x07], 6],
    ['mov byte [rdi], 1', [0xc6, 0x07, 1], 6],
    ['rex mov [rdi], rax', [0x48, 0x89, 0x07], 6],
    ['lock cmpxchg', [0xf0, 0x0f, 0xb1, 0x0f], 6],
    ['cmp [rdi], 1', [0x80, 0x3f, 1], 4],
    ['add [rdi], 1', [0x80, 0x07, 1], 6],
    ['rep stosq', [0xf3, 0x48, 0xab], 6],
    ['movaps xmm0, [rdi]', [0x0f, 0x28, 0x07], 4],
    ['movaps [rdi], xmm0', [0x0f, 0x29, 0x07], 6],
    ['vmovdqu [rdi], ymm0', [0xc5, 0xfe, 0x7f, 0x07], 6],
    ['vmovdqu ymm0, [rdi]', [0xc5, 0xfe, 0x6f, 0x07], 4],
    ['movq xmm0, [rdi]', [0xf3, 0x0f, 0x7e, 0x07], 4],
    ['unreadable', [], 4],
  ])('%s', (_name, code, expected) => {
    expect(at(code)).toEqual([14, expected])
  })
  it('presence, fetches, kernel addresses and other exceptions', () => {
    expect(at([0x89, 0x07], { present: true })).toEqual([14, 7])
    expect(at([], { addr: 0x400000 })).toEqual([14, 0x14])
    expect(at([0x8b, 0x07], { addr: 0xffff800000000000 })).toEqual([14, 5])
    expect(at([0xcd, 0x90], { code: 0x80 })).toEqual([13, 0x482])
    expect(at([0xf2, 0x0f, 0x5e, 0xc1], { signo: 8, code: 3 })).toEqual([19, 0])
    expect(at([0xdc, 0xf9], { signo: 8, code: 3 })).toEqual([16, 0])
    expect(at([0xf7, 0xf9], { signo: 8, code: 1 })).toEqual([0, 0])
  })
})
