/** --strace: what one line looks like, and that no argument, however wild, makes the tracer throw. */
import { describe, expect, it } from 'vitest'
import type { Task } from '../../sentry/kernel/task.ts'
import { ARG } from '../../sentry/platform/amd64/registers.ts'
import { parseSignature } from '../../sentry/strace/arguments.ts'
import { quote } from '../../sentry/strace/decode.ts'
import { cloneFlags, flags, mmapFlags, openFlags, SETS, signalName } from '../../sentry/strace/flags.ts'
import { SYSCALLS } from '../../syscalls/table.ts'

const SIGNATURES: Record<string, string> = Object.fromEntries(SYSCALLS.map((c) => [c.name, c.signature]))

/** A task with registers and one page of memory at `base`; everything else faults. */
class FakeTask {
  readonly regs = new Uint32Array(54)
  readonly memory = new Uint8Array(4096)
  readonly base = 0x10000

  set(...values: number[]): this {
    values.forEach((v, i) => {
      this.regs[ARG[i]!] = v >>> 0
      this.regs[ARG[i]! + 1] = Math.floor(v / 2 ** 32) >>> 0
    })
    return this
  }
  argI32 = (i: number): number => this.regs[ARG[i]!]! | 0
  argU32 = (i: number): number => this.regs[ARG[i]!]!
  argPtr = (i: number): number => this.regs[ARG[i]!]! + this.regs[ARG[i]! + 1]! * 2 ** 32
  argI64 = (i: number): number => this.regs[ARG[i]!]! + (this.regs[ARG[i]! + 1]! | 0) * 2 ** 32
  copyIn(addr: number, dst: Uint8Array, at: number, len: number): number {
    const from = addr - this.base
    if (from < 0 || from >= this.memory.length) return 0
    const n = Math.min(len, this.memory.length - from)
    dst.set(this.memory.subarray(from, from + n), at)
    return n
  }
  readString(addr: number, max: number): string | number {
    let text = ''
    for (let i = 0; i < max; i++) {
      const b = new Uint8Array(1)
      if (this.copyIn(addr + i, b, 0, 1) === 0) return -14
      if (b[0] === 0) return text
      text += String.fromCharCode(b[0]!)
    }
    return -36
  }
  readU32(addr: number): number {
    const b = new Uint8Array(4)
    return this.copyIn(addr, b, 0, 4) === 4 ? new DataView(b.buffer).getUint32(0, true) : -14
  }
  readU64(addr: number): number {
    const lo = this.readU32(addr)
    const hi = this.readU32(addr + 4)
    return lo < 0 || hi < 0 ? -14 : lo + hi * 2 ** 32
  }
  put(at: number, text: string): number {
    Buffer.from(`${text}\0`, 'latin1').copy(this.memory, at)
    return this.base + at
  }
}

const task = (): FakeTask => new FakeTask()
const show = (name: string, t: FakeTask, ret = -1): string =>
  parseSignature(SIGNATURES[name]!)
    .map((a, i) => a.show(t as unknown as Task, i, ret))
    .filter((s) => s !== null)
    .join(', ')

describe('strings', () => {
  it('escapes as strace does', () => {
    expect(quote('a"b\\c\n\t')).toBe('"a\\"b\\\\c\\n\\t"')
    expect(quote('\x7fELF\x02\x00')).toBe('"\\177ELF\\2\\0"')
    expect(quote('\x001')).toBe('"\\0001"')
  })
})

describe('flags', () => {
  it('names what is known and keeps the rest', () => {
    expect(openFlags(0o2000000)).toBe('O_RDONLY|O_CLOEXEC')
    expect(openFlags(0o1102)).toBe('O_RDWR|O_CREAT|O_TRUNC')
    expect(mmapFlags(0x22)).toBe('MAP_PRIVATE|MAP_ANONYMOUS')
    expect(cloneFlags(0x1200011)).toBe('CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD')
    expect(flags(SETS['prot']!.table, 3, '')).toBe('PROT_READ|PROT_WRITE')
    expect(flags(SETS['prot']!.table, 0, '')).toBe('PROT_NONE')
    expect(flags(SETS['prot']!.table, 0x80, 'PROT_???')).toBe('0x80 /* PROT_??? */')
    expect(signalName(17)).toBe('SIGCHLD')
    expect(signalName(34)).toBe('SIGRT_2')
  })
})

describe('arguments', () => {
  it('decodes a path and leaves out a mode that does not count', () => {
    const t = task()
    t.set(-100, t.put(0, '/etc/passwd'), 0o2000000, 0)
    expect(show('openat', t)).toBe('AT_FDCWD, "/etc/passwd", O_RDONLY|O_CLOEXEC')
    t.set(-100, t.put(0, 'x'), 0o101, 0o644)
    expect(show('openat', t)).toBe('AT_FDCWD, "x", O_WRONLY|O_CREAT, 0644')
  })
  it('shows what a read got, and only the address when it failed', () => {
    const t = task()
    t.put(0, 'hello world')
    t.set(3, t.base, 100)
    expect(show('read', t, 5)).toBe('3, "hello", 100')
    expect(show('read', t, -14)).toBe('3, 0x10000, 100')
  })
  it('decodes a socket address', () => {
    const t = task()
    t.memory.set([2, 0, 0, 80, 127, 0, 0, 1])
    t.set(3, t.base, 16)
    expect(show('connect', t)).toBe('3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}, 16')
  })
})

describe('hostile input', () => {
  it('never throws, whatever the registers and memory hold', () => {
    const wild = [0, 1, 7, 0x10000, 0x10ff8, 0x10fff, 0xffffffff, 0x7fffffffffff, 2 ** 53 - 1, 2 ** 63, 2 ** 64 - 4096]
    for (const name of Object.keys(SIGNATURES)) {
      for (let round = 0; round < 40; round++) {
        const t = task()
        for (let i = 0; i < t.memory.length; i++) t.memory[i] = (i * 31 + round * 17) & (round % 3 === 0 ? 0xff : 0x11)
        t.set(...[0, 1, 2, 3, 4, 5].map((i) => wild[(round * 7 + i * (round + 3)) % wild.length]!))
        for (const ret of [-1, 0, 1, 4096, -14, 2 ** 40]) {
          const text = show(name, t, ret)
          expect(text.length).toBeLessThan(20_000)
        }
      }
    }
  })
})
