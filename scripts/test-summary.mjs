// The closing lines of `npm test`: skipped tests with their reasons, failures, and the counts as the last line.
// Counts come from test/support/summary-reporter.ts; a run that left none, or ended badly without a failed test, failed.
import { existsSync, readFileSync } from 'node:fs'

const [summaryFile, vitestCode, ...failedChecks] = process.argv.slice(2)
const summary = existsSync(summaryFile)
  ? JSON.parse(readFileSync(summaryFile, 'utf8'))
  : { passed: 0, failures: [], skips: [] }
const failures = [...failedChecks.map((name) => `check: ${name}`), ...summary.failures]
if (vitestCode !== '0' && summary.failures.length === 0) failures.push(`vitest ended with code ${vitestCode}`)
if (vitestCode === '0' && summary.passed === 0) failures.push('vitest ran no test')
for (const { name, reason } of summary.skips) console.log(`skipped: ${name}: ${reason}`)
for (const name of failures) console.log(`failed: ${name}`)
console.log(`${summary.passed} passed, ${failures.length} failed, ${summary.skips.length} skipped`)
process.exitCode = failures.length === 0 ? 0 : 1
