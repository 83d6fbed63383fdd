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
  it.concurrent.each(programs)('$name', { timeout: 240_000 }, async (program) => {
    let native = await runNative(program)
    expect(native, 'natively').toMatchObject({ code: 0, stderr: '' })
    const sandbox = await runSandboxed(platform, program)
    // On a busy host a native run may differ from the next one (tty_fuzz: a kernel thread feeds the line discipline):
    // as long as native runs disagree among themselves the sandbox need only agree with one of them.
    for (let more = 4; difference(native, sandbox).length > 0 && more > 0; more--) {
      const again = await runNative(program)
      if (again.stdout === native.stdout) break
      native = again
    }
    expect(difference(native, sandbox)).toEqual([])
  })
})
