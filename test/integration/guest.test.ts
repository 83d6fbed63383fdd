/**
 * Every guest program natively, where it must pass, and then in the sandbox, where it must print the same bytes.
 * A program that hangs fails.
 */
import { beforeAll, describe, expect, it } from 'vitest'
import { build, difference, guestPrograms, runNative, runSandboxed } from '../support/guest.ts'
import { PLATFORMS } from '../support/run.ts'

const programs = guestPrograms()

beforeAll(async () => {
  for (const program of programs) await build(program)
})

describe.each(PLATFORMS)('guest programs on %s', (platform) => {
  it.concurrent.each(programs)('$name', { timeout: 160_000 }, async (program) => {
    const native = await runNative(program)
    expect(native, 'natively').toMatchObject({ code: 0, stderr: '' })
    const sandbox = await runSandboxed(platform, program)
    expect(difference(native, sandbox)).toEqual([])
  })
})
