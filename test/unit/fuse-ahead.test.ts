/** What the agent says in the gofer's place before there is one: the same as the gofer. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import * as wire from '../../gofer/fuse/wire.ts'
import { request, startFuse, u32 } from '../support/fuse-client.ts'

const base = mkdtempSync(join(tmpdir(), 'fuse-ahead-'))
afterAll(() => rmSync(base, { recursive: true }))

describe.skipIf(spawnSync('cc', ['--version']).status !== 0)('the agent', () => {
  test('agrees on what the gofer of a read-only root agrees on', async () => {
    const out = join(base, 'answers')
    const sources = ['test/support/fuse-answers.c', 'native/agent/fuse-answers.c']
    expect(spawnSync('cc', ['-o', out, ...sources], { encoding: 'utf8' }).stderr).toBe('')
    mkdirSync(join(base, 'root'))
    const gofer = startFuse([{ id: 0, source: join(base, 'root'), readonly: true, shared: false }], false)
    const client = gofer.clients[0]!
    for (const minor of [31, 36, 37, 38, 45]) {
      for (const flags of [0x7fff_ffff, 0x73ff_fffb]) {
        const fields = [u32(wire.MAJOR), u32(minor), u32(512 * 1024), u32(flags), Buffer.alloc(48)]
        const { stdout } = spawnSync(out, { input: request(wire.INIT, 2, 0, fields) })
        expect(client.call(wire.INIT, 0, ...fields)).toBe(0)
        expect(stdout.readInt32LE(4)).toBe(0)
        expect(stdout.subarray(16)).toEqual(client.body)
      }
    }
    await gofer.stop()
  })
})
