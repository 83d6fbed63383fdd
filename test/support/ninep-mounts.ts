/**
 * Mounts for tests of the 9P front end, offered by a real process, unconfined as anybody and confined as root: a directory
 * (0), a read-only one (1), one that others change, too (2), and a single file (3). 0 and 2 are empty when a test begins,
 * and 0 is attached as fid 0.
 */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect } from 'vitest'
import { stopsCleanly } from './gofer-child.ts'
import { type NinepClient, type NinepGofer, startNinep } from './ninep-client.ts'

export const MSIZE = 65536
export const isRoot = process.getuid?.() === 0

/** Where the tests of a {@link describeMounts} are: valid while one runs. */
export interface NinepMounts {
  /** The host's path of a name, which begins with root/, readonly/ or shared/. */
  at(name: string): string
  readonly confined: boolean
  /** Two connections; the first is the one that has fid 0. */
  readonly clients: readonly NinepClient[]
}

/** Runs `tests` for either kind of process; `begin` is told of each test's mounts first. */
export function describeMounts(begin: (mounts: NinepMounts) => void, tests: () => void): void {
  for (const confined of [false, true]) {
    describe.skipIf(confined && !isRoot)(confined ? 'confined (as root)' : 'unconfined', () => {
      let dir: string
      let gofer: NinepGofer
      const at = (name: string): string => join(dir, name)

      beforeAll(() => {
        dir = mkdtempSync(join(tmpdir(), 'ninep-'))
        for (const d of ['root', 'readonly', 'shared']) mkdirSync(at(d))
        writeFileSync(at('readonly/file'), 'fixed')
        writeFileSync(at('single'), 'one file')
        gofer = startNinep(
          [
            { id: 0, source: at('root'), shared: false },
            { id: 1, source: at('readonly'), readonly: true },
            { id: 2, source: at('shared') },
            { id: 3, source: at('single'), kind: 'file' },
          ],
          confined,
          2,
        )
      })
      afterAll(async () => {
        await stopsCleanly(gofer)
        rmSync(dir, { recursive: true })
      })
      beforeEach(() => {
        for (const d of ['root', 'shared']) {
          for (const name of readdirSync(at(d))) rmSync(join(at(d), name), { recursive: true })
        }
        const c = gofer.clients[0]!
        expect(c.version(MSIZE)).toBe(MSIZE)
        expect(c.attach(0, '0', process.getuid!())).toBe(0)
        begin({ at, confined, clients: gofer.clients })
      })
      tests()
    })
  }
}
