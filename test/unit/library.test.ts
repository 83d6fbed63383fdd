/** The Node-API module's conversions, and children made through it. */
import { closeSync, openSync, readSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { memfdCreate, pipe2, raw } from '../../native/host.ts'
import { HostMemory, lseekBig } from '../../native/host-files.ts'
import { addressOf, libhost, memoryAt } from '../../native/library.ts'
import { childEnd, spawnProcess } from '../../native/spawn.ts'

describe('host functions', () => {
  it('refuses functions and types that it does not know', () => {
    expect(() => libhost.func('no_such_function', 'int', [])).toThrow(TypeError)
    expect(() => libhost.func('host_syscall', 'long', ['float'])).toThrow(TypeError)
    expect(() => libhost.func('host_syscall', 'long', ['double', 'double', 'double'])).toThrow(TypeError)
    expect(() => libhost.func('host_syscall', 'long', Array(9).fill('long'))).toThrow(TypeError)
  })

  it('refuses wrong arguments', () => {
    expect(() => raw.L(39, '' as unknown as number, 0, 0, 0, 0, 0)).toThrow(TypeError)
    expect(() => raw.P(39, 1 as unknown as null, 0, 0, 0, 0, 0)).toThrow(TypeError)
    expect(() => (raw.L as (nr: number) => number)(39)).toThrow(TypeError)
  })

  it('takes numbers of 53 bits, negative ones and BigInts', () => {
    const fd = memfdCreate('test', 1)
    expect(raw.L(77, fd, 2 ** 40 + 3, 0, 0, 0, 0)).toBe(0)
    expect(raw.L(8, fd, -3, 2, 0, 0, 0)).toBe(2 ** 40)
    expect(lseekBig(fd, (1n << 41n) + 1n)).toBe(2 ** 41 + 1)
    closeSync(fd)
  })

  it('shows memory at its address', () => {
    const memory = new HostMemory(8192)
    memory.view.setUint32(4096, 0x12345678, true)
    expect(new Uint32Array(memoryAt(memory.at(4096), 8))[0]).toBe(0x12345678)
    expect(addressOf(memory.view)).toBe(memory.address)
  })
})

describe('spawnProcess', () => {
  it('gives exactly these descriptors, also when they trade places, and an empty environment', async () => {
    const fds = new Int32Array(2)
    pipe2(fds, 0o2000000)
    const none = openSync('/dev/null', 'r')
    const pid = spawnProcess(
      ['/bin/sh', '-c', 'echo err >&2; echo out; tr "\\0" "\\n" </proc/self/environ'],
      [none, 2, fds[1]!],
    )
    expect(pid).toBeGreaterThan(0)
    expect(await childEnd(pid)).toEqual({ code: 0, signal: null })
    closeSync(fds[1]!)
    const text = Buffer.alloc(4096)
    expect(text.toString('latin1', 0, readSync(fds[0]!, text))).toBe('err\n')
    closeSync(fds[0]!)
    closeSync(none)
  })

  it('tells how a child ended, early or late', async () => {
    expect(await childEnd(spawnProcess(['/bin/sh', '-c', 'exit 7'], [0, 1, 2]))).toEqual({ code: 7, signal: null })
    expect(await childEnd(spawnProcess(['/bin/sh', '-c', 'kill -9 $$'], [0, 1, 2]))).toEqual({ code: null, signal: 9 })
    const late = spawnProcess(['/bin/sh', '-c', 'sleep 0.2; exit 3'], [0, 1, 2])
    expect(await childEnd(late)).toEqual({ code: 3, signal: null })
  })

  it('says what is not there', () => expect(spawnProcess(['/no/such/program'], [0, 1, 2])).toBe(-2))
})
