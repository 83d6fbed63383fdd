/**
 * Path resolution of the gofer in both its ways: openat2, and one O_NOFOLLOW step at a time for kernels without it.
 */
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmdirSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseConfig } from '../../gofer/config.ts'
import { openMounts } from '../../gofer/mounts.ts'
import { Place, Resolver, type ServedMount } from '../../gofer/resolve.ts'
import { close } from '../../native/host.ts'
import { HostMemory, O_PATH } from '../../native/host-files.ts'
import { ELOOP, ENOENT, ENOTDIR } from '../../sentry/abi/errno.ts'

let dir: string
let exclusive: ServedMount
let shared: ServedMount
const memory = new HostMemory(20_000)
const openCount = () => readdirSync('/proc/self/fd').length

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'gofer-resolve-'))
  mkdirSync(join(dir, 'root/a/b/c'), { recursive: true })
  mkdirSync(join(dir, 'outside'))
  symlinkSync('../outside', join(dir, 'root/up'))
  symlinkSync('b', join(dir, 'root/a/link'))
  const source = join(dir, 'root')
  const config = parseConfig(
    JSON.stringify({
      mounts: [
        { id: 0, source, shared: false },
        { id: 1, source },
      ],
    }),
  )
  ;[exclusive, shared] = openMounts(config.mounts, false).served as [ServedMount, ServedMount]
})
afterAll(() => rmSync(dir, { recursive: true }))

function directory(resolver: Resolver, mount: ServedMount, path: string): number {
  const place = new Place()
  memory.writeString(0, path)
  const result = resolver.directory(place, mount, memory, 0, path.length)
  if (result === 0) place.release()
  return result
}

for (const useOpenat2 of [true, false]) {
  describe(useOpenat2 ? 'with openat2' : 'step by step', () => {
    const resolver = new Resolver(useOpenat2)

    it('finds directories and follows no link', () => {
      for (const mount of [exclusive, shared]) {
        expect(directory(resolver, mount, '')).toBe(0)
        expect(directory(resolver, mount, 'a/b/c')).toBe(0)
        expect(directory(resolver, mount, 'a/x/c')).toBe(-ENOENT)
        expect([-ENOTDIR, -ELOOP]).toContain(directory(resolver, mount, 'up'))
        expect([-ENOTDIR, -ELOOP]).toContain(directory(resolver, mount, 'up/x'))
        expect([-ENOTDIR, -ELOOP]).toContain(directory(resolver, mount, 'a/link/c'))
      }
    })

    it('splits off the last name and opens it without following', () => {
      const place = new Place()
      memory.writeString(0, 'a/link')
      expect(resolver.parent(place, shared, memory, 0, 6)).toBe(0)
      expect(place.name).toBe(memory.at(2))
      const fd = resolver.openName(place.dirfd, place.name, O_PATH, 0)
      expect(fd).toBeGreaterThan(0)
      close(fd)
      expect(resolver.openName(place.dirfd, place.name, 0, 0)).toBe(-ELOOP)
      place.release()
    })

    it('restores the frame that it cut into pieces', () => {
      const long = Array.from({ length: 60 }, () => 'n'.repeat(150)).join('/')
      expect(directory(resolver, exclusive, long)).toBe(-ENOENT)
      expect(memory.bytes.toString('latin1', 0, long.length)).toBe(long)
    })

    it('keeps no more descriptors than it may, and none of a shared mount', () => {
      for (let i = 0; i < 400; i++) mkdirSync(join(dir, `root/d${i}`))
      const before = openCount()
      for (let i = 0; i < 400; i++) expect(directory(resolver, shared, `d${i}`)).toBe(0)
      expect(openCount()).toBe(before)
      for (let i = 0; i < 400; i++) expect(directory(resolver, exclusive, `d${i}`)).toBe(0)
      expect(openCount() - before).toBeLessThanOrEqual(256)
      for (let i = 0; i < 400; i++) rmdirSync(join(dir, `root/d${i}`))
    })

    it('forgets what is below a name that goes', () => {
      mkdirSync(join(dir, 'root/old/sub'), { recursive: true })
      mkdirSync(join(dir, 'root/older'))
      for (const path of ['old', 'old/sub', 'older']) expect(directory(resolver, exclusive, path)).toBe(0)
      const before = openCount()
      resolver.invalidate(exclusive, 'old')
      expect(openCount()).toBe(before - 2)
      renameSync(join(dir, 'root/old'), join(dir, 'root/new'))
      expect(directory(resolver, exclusive, 'old/sub')).toBe(-ENOENT)
      expect(directory(resolver, exclusive, 'new/sub')).toBe(0)
      rmSync(join(dir, 'root/new'), { recursive: true })
      rmSync(join(dir, 'root/older'), { recursive: true })
    })
  })
}
