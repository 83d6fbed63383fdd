/**
 * Unit tests run in parallel; integration tests one file at a time, because each starts sandboxes of its own and two
 * cores are all that CI has. A test that hangs fails by its time-out.
 */
import { defineConfig } from 'vitest/config'
import { SummaryReporter } from './test/support/summary-reporter.ts'

const summary = process.env['TSSANDBOX_TEST_SUMMARY']

// Vitest takes the default export of its config file.
// biome-ignore lint/style/noDefaultExport: see above
export default defineConfig({
  test: {
    reporters: ['default', ...(summary ? [new SummaryReporter(summary)] : [])],
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts', '{sentry,syscalls,gofer,native,runsc-cli}/**/*.test.ts'],
          testTimeout: 20_000,
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          name: 'integration',
          include: ['test/integration/**/*.test.ts'],
          testTimeout: 60_000,
          hookTimeout: 180_000,
          maxWorkers: 1,
          maxConcurrency: 2,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
})
