/**
 * Small formatting helpers that several files of /proc share.
 */
export const TICK_NS = 1e7

export const ticks = (ns: number): number => Math.floor(ns / TICK_NS)

/** A u64 of which only the low 53 bits may be exact; Infinity is RLIM_INFINITY. */
export const u64 = (n: number): string => (n === Number.POSITIVE_INFINITY ? '18446744073709551615' : String(n))

export const hex8 = (n: number): string => (n >>> 0).toString(16).padStart(8, '0')
/** Two u32 as 16 digits. */
export const hex16 = (lo: number, hi: number): string => hex8(hi) + hex8(lo)

/** seq_path's escape: each byte of `chars` as a backslash and three octal digits. */
export function escapeOctal(text: string, chars: string): string {
  let out = ''
  for (const c of text) out += chars.includes(c) ? `\\${c.charCodeAt(0).toString(8).padStart(3, '0')}` : c
  return out
}

/** The bit mask of CPUs as %*pb (groups of 32 bits) and %*pbl (ranges). */
export function cpuMaskText(mask: Uint8Array, cpus: number): { bits: string; list: string } {
  const words: string[] = []
  const digits = Math.max(1, Math.ceil(cpus / 4))
  for (let at = 0; at * 32 < cpus; at++) {
    let word = 0
    for (let i = 3; i >= 0; i--) word = word * 256 + (mask[4 * at + i] ?? 0)
    const width = Math.min(8, digits - 8 * at)
    words.unshift(word.toString(16).padStart(width, '0'))
  }
  const has = (cpu: number): boolean => ((mask[cpu >> 3] ?? 0) & (1 << (cpu & 7))) !== 0
  const ranges: string[] = []
  for (let cpu = 0; cpu < mask.length * 8; cpu++) {
    if (!has(cpu)) continue
    const first = cpu
    while (has(cpu + 1)) cpu++
    ranges.push(first === cpu ? `${first}` : `${first}-${cpu}`)
  }
  return { bits: words.join(','), list: ranges.join(',') }
}
