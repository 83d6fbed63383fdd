/** A bar on the terminal; where there is none, a line now and then. */
const WIDTH = 30
const LINE_SECONDS = 20

export class Progress {
  private done = 0
  private readonly since = performance.now()
  private lastLine = 0
  private readonly total: number

  constructor(total: number) {
    this.total = total
  }

  show(what: string): void {
    const seconds = (performance.now() - this.since) / 1000
    const share = this.total === 0 ? 1 : this.done / this.total
    const left = share > 0 ? `, ${Math.round((seconds / share) * (1 - share))} s left` : ''
    const percent = `${Math.floor(share * 100)} %`
    if (process.stderr.isTTY) {
      process.stderr.write(`\r\x1b[K${bar(share)} ${percent}${left}  ${what}`)
    } else if (this.lastLine === 0 || seconds - this.lastLine >= LINE_SECONDS) {
      this.lastLine = seconds || Number.MIN_VALUE
      process.stderr.write(`${percent}${left}  ${what}\n`)
    }
  }

  advance(): void {
    this.done++
  }

  end(): void {
    if (process.stderr.isTTY) process.stderr.write('\r\x1b[K')
  }
}

function bar(share: number): string {
  const full = Math.round(share * WIDTH)
  return `[${'█'.repeat(full)}${' '.repeat(WIDTH - full)}]`
}
