/** Pieces of /proc that are easier to pin down alone than through a program. */
import { describe, expect, it } from 'vitest'
import { cpuMaskText, escapeOctal, hex16, u64 } from '../../sentry/fs/proc/format.ts'

describe('CPU masks', () => {
  it('print as %*pb and %*pbl', () => {
    expect(cpuMaskText(new Uint8Array([3]), 2)).toEqual({ bits: '3', list: '0-1' })
    expect(cpuMaskText(new Uint8Array([0b1101, 0, 0, 0]), 4)).toEqual({ bits: 'd', list: '0,2-3' })
    expect(cpuMaskText(new Uint8Array([0xff, 0xff, 0, 0, 0, 0, 0, 0]), 16)).toEqual({ bits: 'ffff', list: '0-15' })
    expect(cpuMaskText(new Uint8Array([1, 0, 0, 0, 1, 0, 0, 0]), 40)).toEqual({ bits: '01,00000001', list: '0,32' })
  })
})

describe('numbers and names', () => {
  it('print as the kernel does', () => {
    expect(u64(Number.POSITIVE_INFINITY)).toBe('18446744073709551615')
    expect(u64(8388608)).toBe('8388608')
    expect(hex16(0xffffffff, 0x1ff)).toBe('000001ffffffffff')
    expect(escapeOctal('a b\tc\\d\n', ' \t\n\\')).toBe('a\\040b\\011c\\134d\\012')
  })
})
