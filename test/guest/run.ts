/**
 * Runs guest programs by hand and shows how the sandbox differs from the host:
 *   node test/guest/run.ts [--platform=NAME] [--native] [PROGRAM[:TEST]...]
 */
import { parseArgs } from 'node:util'
import { build, difference, guestPrograms, runNative, runSandboxed } from '../support/guest.ts'

const { values, positionals } = parseArgs({
  options: { platform: { type: 'string', default: 'ptrace' }, native: { type: 'boolean', default: false } },
  allowPositionals: true,
})
const wanted = positionals.map((p) => p.split(':'))
let failed = 0
for (const program of guestPrograms()) {
  const match = wanted.find(([name]) => name === program.name)
  if (wanted.length > 0 && !match) continue
  await build(program)
  const args = match?.[1] ? [match[1]] : []
  const native = await runNative(program, ...args)
  const lines: string[] = native.code === 0 ? [] : [`natively: ${native.code}`, native.stdout, native.stderr]
  if (!values.native) lines.push(...difference(native, await runSandboxed(values.platform, program, ...args)))
  if (lines.length > 0) failed++
  console.log(`${lines.length === 0 ? 'ok  ' : 'FAIL'} ${program.name}`)
  for (const line of lines) console.log(`     ${line}`)
}
process.exitCode = failed === 0 ? 0 : 1
