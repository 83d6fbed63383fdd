/** microvm/ without a VM: frames, names, choices, archives; and the agent's parser, built for the host. */
import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, test } from 'vitest'
import { chooseAccel } from '../../microvm/accel.ts'
import { cpio } from '../../microvm/cpio.ts'
import { MSG } from '../../microvm/messages.ts'
import { lean } from '../../microvm/setup.ts'
import { Store } from '../../microvm/store.ts'
import { findTemplate, templateName } from '../../microvm/template.ts'
import { extractVmlinux, withoutZeros } from '../../microvm/vmlinux.ts'
import type { VmShape } from '../../microvm/vmm.ts'
import { decode, type Encodable, encode, Fields, FrameReader, MAX_FRAME, WireError } from '../../microvm/wire.ts'

const base = mkdtempSync(join(tmpdir(), 'tssandbox-microvm-'))
afterAll(() => rmSync(base, { recursive: true, force: true }))

describe('frames', () => {
  const leaf = fc.oneof(
    fc.integer({ min: -(2 ** 31), max: 2 ** 53 - 1 }),
    fc.boolean(),
    fc.uint8Array({ maxLength: 300 }).map((b) => Buffer.from(b)),
  )
  const message = fc.array(fc.oneof(leaf, fc.array(leaf, { maxLength: 5 })), { maxLength: 20 })

  test('what is encoded is decoded, in whatever pieces it comes', () => {
    fc.assert(
      fc.property(message, fc.array(fc.integer({ min: 1, max: 50 })), (value, sizes) => {
        const frame = encode(value as Encodable)
        const reader = new FrameReader()
        let got: unknown
        for (let at = 0, i = 0; at < frame.length; i++) {
          const size = sizes[i] ?? frame.length
          reader.push(frame.subarray(at, at + size))
          at += size
          got = reader.next() ?? got
        }
        expect(got).toEqual(value)
      }),
    )
  })

  test('mutated frames are values or WireErrors', () => {
    const original = encode([65, 7, 0, 'text', [1, 2, [3, 'x', Buffer.alloc(40)]]])
    let state = 12345
    const rnd = (n: number) => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0
      return (state >>> 8) % n
    }
    for (let n = 0; n < 200_000; n++) {
      const body = Buffer.from(original.subarray(4))
      for (let m = rnd(5); m >= 0; m--) body[rnd(body.length)] = rnd(256)
      try {
        decode(body.subarray(0, 1 + rnd(body.length)))
      } catch (error) {
        if (!(error instanceof WireError)) throw error
      }
    }
  })

  test('sizes are bounded', () => {
    const reader = new FrameReader()
    reader.push(Buffer.from([0xff, 0xff, 0xff, 0x7f]))
    expect(() => reader.next()).toThrow(WireError)
    expect(() => encode(['x'.repeat(MAX_FRAME)])).toThrow(WireError)
    let nested = Buffer.from([0x01])
    for (let i = 0; i < 100; i++) nested = Buffer.concat([Buffer.from([0xdd, 0, 0, 0, 1]), nested])
    expect(() => decode(nested)).toThrow(WireError)
    expect(() => decode(Buffer.from([0xdd, 0xff, 0xff, 0xff, 0xff, 1]))).toThrow(WireError)
  })

  test('fields have types', () => {
    expect(() => new Fields([-1]).u32()).toThrow(WireError)
    expect(() => new Fields(['x' as never]).bytes()).toThrow(WireError)
    expect(() => new Fields([]).list()).toThrow(WireError)
    expect(new Fields([2 ** 32 - 1]).u32()).toBe(4294967295)
  })

  test('the kinds of messages are those of the agent', () => {
    const header = readFileSync('native/agent/agent.h', 'utf8')
    let next = 0
    const inC: Record<string, number> = {}
    for (const [, name, value] of header.matchAll(/^\tMSG_(\w+)(?: = (\d+))?,/gm)) {
      next = value ? Number(value) : next + 1
      inC[name!] = next
    }
    expect(inC).toEqual(MSG)
  })
})

describe.skipIf(spawnSync('cc', ['--version']).status !== 0)('the agent', () => {
  test('its parser holds against mutated frames', { timeout: 300_000 }, () => {
    const out = join(base, 'agent-frames')
    const sources = ['test/fuzz/agent-frames.c', 'native/agent/frame.c', 'native/agent/orders.c']
    const flags = ['-O1', '-g', '-std=gnu11', '-fsanitize=address,undefined', '-fno-sanitize-recover=all']
    expect(spawnSync('cc', [...flags, '-o', out, ...sources], { encoding: 'utf8' }).stderr).toBe('')
    // TSSANDBOX_FUZZ=1000000 for the whole.
    const count = process.env['TSSANDBOX_FUZZ'] ?? '30000'
    const r = spawnSync(out, ['7', count], { encoding: 'utf8' })
    expect(r.stderr).toBe('')
    expect(r.status).toBe(0)
    expect(Number(r.stdout)).toBeGreaterThan(0)
  })
})

test('acceleration: KVM only where the probe found ring 0 native, or by order', () => {
  expect(chooseAccel('auto', { kvm: 0, tscKhz: 1 }).accel).toBe('kvm')
  expect(chooseAccel('auto', { kvm: 1, tscKhz: 1 }).accel).toBe('tcg')
  expect(chooseAccel('auto', { kvm: 2, tscKhz: 1 }).accel).toBe('tcg')
  expect(chooseAccel('tcg', { kvm: 0, tscKhz: 1 }).accel).toBe('tcg')
  expect(chooseAccel('kvm', { kvm: 2, tscKhz: 1 }).accel).toBe('kvm')
})

describe('templates', () => {
  const shape: VmShape = {
    image: { hash: 'a', vmlinux: '/v', initramfs: '/i', kernel: 'k', acpi: true },
    accel: 'tcg',
    memory: 256,
    cpus: 1,
    tscKhz: 1000,
    networked: false,
    ports: 20,
    growing: false,
  }
  test('everything that a restored VM depends on is in the name', () => {
    const names = [
      templateName(shape, 'qemu-1'),
      templateName(shape, 'qemu-2'),
      templateName({ ...shape, memory: 384 }, 'qemu-1'),
      templateName({ ...shape, cpus: 2 }, 'qemu-1'),
      templateName({ ...shape, accel: 'kvm' }, 'qemu-1'),
      templateName({ ...shape, tscKhz: 1001 }, 'qemu-1'),
      templateName({ ...shape, networked: true }, 'qemu-1'),
      templateName({ ...shape, ports: 4 }, 'qemu-1'),
      templateName({ ...shape, growing: true }, 'qemu-1'),
      templateName({ ...shape, image: { ...shape.image, hash: 'b' } }, 'qemu-1'),
    ]
    expect(new Set(names).size).toBe(names.length)
    expect(templateName({ ...shape }, 'qemu-1')).toBe(names[0])
  })

  test('one that is missing, truncated or without a manifest is none', () => {
    const dir = join(base, 'template')
    expect(findTemplate(dir)).toBeNull()
    mkdirSync(dir)
    writeFileSync(join(dir, 'memory'), 'mmmm')
    writeFileSync(join(dir, 'state'), 'ss')
    expect(findTemplate(dir)).toBeNull()
    writeFileSync(join(dir, 'manifest.json'), JSON.stringify({ image: 'a', memoryBytes: 4, stateBytes: 2 }))
    expect(findTemplate(dir)).toEqual({ memory: join(dir, 'memory'), state: join(dir, 'state'), isNew: false })
    truncateSync(join(dir, 'memory'), 3)
    expect(findTemplate(dir)).toBeNull()
  })
})

describe('the store', () => {
  const folder = (path: string, manifest: object | null, hours: number) => {
    mkdirSync(path, { recursive: true })
    if (manifest) writeFileSync(join(path, 'manifest.json'), JSON.stringify(manifest))
    const then = Date.now() / 1000 - hours * 3600
    utimesSync(manifest ? join(path, 'manifest.json') : path, then, then)
  }

  test('what no installation uses is removed, but for what is young', () => {
    const dir = join(base, 'store')
    const dist = join(base, 'dist')
    for (const d of [dist, join(dir, 'users')]) mkdirSync(d, { recursive: true })
    writeFileSync(join(dist, 'agent'), 'agent')
    writeFileSync(join(dir, 'users/1.json'), JSON.stringify({ dist, image: 'used' }))
    writeFileSync(join(dir, 'users/2.json'), JSON.stringify({ dist: join(base, 'gone'), image: 'left' }))
    writeFileSync(join(dir, 'users/3.json'), '{')
    for (const [name, hours] of Object.entries({ used: 9, left: 9, old: 9, young: 0 }))
      folder(join(dir, 'images', name), {}, hours)
    folder(join(dir, 'images/broken'), null, 9)
    for (const [name, image, hours] of [
      ['a', 'used', 9],
      ['b', 'old', 9],
      ['c', 'old', 0],
      ['d', undefined, 9],
      ['e', 'young', 9],
    ] as const)
      folder(join(dir, 'templates', name), { image }, hours)
    expect(new Store(dir, dist).prune()).toBe(5)
    expect(readdirSync(join(dir, 'images')).sort()).toEqual(['used', 'young'])
    expect(readdirSync(join(dir, 'templates')).sort()).toEqual(['a', 'c', 'e'])
    expect(readdirSync(join(dir, 'users'))).toEqual(['1.json'])
  })

  test('installations do not take each other’s images away', () => {
    const dir = join(base, 'shared')
    const vmlinux = join(base, 'vmlinux')
    writeFileSync(vmlinux, 'kernel')
    const stores = ['one', 'two'].map((name) => {
      const dist = join(base, name)
      mkdirSync(dist)
      writeFileSync(join(dist, 'agent'), name)
      const store = new Store(dir, dist)
      store.saveImage('k', true, vmlinux, Buffer.from(name))
      return store
    })
    expect(readFileSync(stores[0]!.image().initramfs, 'utf8')).toBe('one')
    expect(readFileSync(stores[1]!.image().initramfs, 'utf8')).toBe('two')
    // The same agent, built twice: one image, and neither set-up takes it from the other.
    const twin = new Store(dir, join(base, 'twin'))
    mkdirSync(join(base, 'twin'))
    writeFileSync(join(base, 'twin/agent'), 'one, built again')
    twin.saveImage('k', true, vmlinux, Buffer.from('one'))
    expect(twin.image().hash).toBe(stores[0]!.image().hash)
    writeFileSync(join(base, 'twin/agent'), 'changed')
    expect(() => twin.image()).toThrow('the agent has changed')
    expect(() => new Store(dir, join(base, 'three')).image()).toThrow('microvm setup')
  })
})

test('modules lose their signature and the names of sections that cost time', () => {
  const names = Buffer.from(
    '\0.text\0.BTF\0.rela.orc_unwind_ip\0.orc_unwind\0_ftrace_eval_map\0__mcount_loc\0',
    'latin1',
  )
  const signature = Buffer.alloc(40, 7)
  const info = Buffer.alloc(12)
  info.writeUInt32BE(signature.length, 8)
  const signed = Buffer.concat([names, signature, info, Buffer.from('~Module signature appended~\n')])
  const leaner = '\0.text\0.BT-\0.rela.orc_unwind_i-\0.orc_unwind\0_ftrace_eval_ma-\0__mcount_loc\0'
  expect(lean(signed).toString('latin1')).toBe(leaner)
  expect(lean(names).toString('latin1')).toBe(leaner)
  expect(names.includes('.BTF')).toBe(true)
  for (const length of [0, 1, 12, 40]) expect(lean(signed.subarray(signed.length - length)).length).toBeLessThan(41)
})

test.skipIf(!existsSync('/usr/bin/cpio') && spawnSync('busybox', ['true']).status !== 0)(
  'initramfs is a cpio archive',
  () => {
    const file = join(base, 'a.cpio')
    writeFileSync(
      file,
      cpio([
        { name: 'dir', mode: 0o40755 },
        { name: 'dir/file', mode: 0o100644, data: Buffer.from('hello') },
      ]),
    )
    const r = spawnSync('busybox', ['cpio', '-i'], { cwd: base, input: readFileSync(file), encoding: 'utf8' })
    expect(r.status).toBe(0)
    expect(readFileSync(join(base, 'dir/file'), 'utf8')).toBe('hello')
  },
)

test('what is no kernel is refused', () => {
  expect(() => extractVmlinux(Buffer.alloc(4096))).toThrow('neither')
  expect(extractVmlinux(Buffer.from('\x7fELF and more')).length).toBe(13)
})

test('a kernel is loaded without the zeros that its memory has anyway', () => {
  const kernel = Buffer.alloc(0x6000 + 64)
  kernel.writeBigUInt64LE(64n, 32) // program headers, sections
  kernel.writeBigUInt64LE(0x6000n, 40)
  kernel.writeUInt16LE(3, 56)
  kernel.writeUInt16LE(1, 60)
  const segment = (i: number, type: number, offset: number, size: number, memory: number) => {
    kernel.writeUInt32LE(type, 64 + i * 56)
    for (const [at, value] of [
      [8, offset],
      [32, size],
      [40, memory],
    ] as const)
      kernel.writeBigUInt64LE(BigInt(value), 64 + i * 56 + at)
  }
  segment(0, 1, 0x1000, 0x1000, 0x1000)
  segment(1, 1, 0x2000, 0x4000, 0x8000)
  segment(2, 4, 0x1100, 0x20, 0x20)
  kernel.fill(7, 0x1000, 0x1010)
  kernel.fill(8, 0x2000, 0x3001)
  const lean = withoutZeros(kernel)
  expect(lean.length).toBe(0x4000)
  const sizes = (b: Buffer) => [0, 1, 2].map((i) => [32, 40].map((at) => Number(b.readBigUInt64LE(64 + i * 56 + at))))
  expect(sizes(lean)).toEqual([
    [0x1000, 0x1000],
    [0x2000, 0x2000],
    [0x20, 0x20],
  ])
  expect(lean.readBigUInt64LE(40)).toBe(0n)
  expect(lean.subarray(0x1000)).toEqual(kernel.subarray(0x1000, 0x4000))
})
