/**
 * Vitest reporter that writes the facts which `npm test` closes with: how many tests passed, the names of those that
 * failed and those that were skipped with the reason each gave. A file that does not load counts as one failure.
 */
import { writeFileSync } from 'node:fs'
import type { Reporter, SerializedError, TestModule } from 'vitest/node'

export class SummaryReporter implements Reporter {
  readonly #file: string
  constructor(file: string) {
    this.#file = file
  }

  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[]): void {
    let passed = 0
    const failures: string[] = unhandled.map((error) => `unhandled error: ${error.message}`)
    const skips: { name: string; reason: string }[] = []
    for (const module of modules) {
      const file = module.relativeModuleId
      for (const error of module.errors()) failures.push(`${file}: ${error.message.split('\n')[0]}`)
      for (const suite of module.children.allSuites()) {
        for (const error of suite.errors())
          failures.push(`${file} > ${suite.fullName}: ${error.message.split('\n')[0]}`)
      }
      for (const test of module.children.allTests()) {
        const result = test.result()
        const name = `${file} > ${test.fullName}`
        if (result.state === 'passed') passed++
        else if (result.state === 'skipped') skips.push({ name, reason: result.note ?? 'no reason given' })
        else failures.push(name)
      }
    }
    writeFileSync(this.#file, JSON.stringify({ passed, failures, skips }, null, 2))
  }
}
