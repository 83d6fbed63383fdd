/**
 * What the sentry says about itself under --debug-log and --strace: one line per unimplemented call, the trace, and at the
 * end how often which call was answered and how many messages went to the gofer.
 */
import { openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { BootConfig } from '../sentry/control/protocol.ts'
import type { GoferClient } from '../sentry/fs/gofer/client.ts'
import { MessageCounts } from '../sentry/fs/gofer/message-counts.ts'
import type { Kernel } from '../sentry/kernel/kernel.ts'
import { startStrace } from './strace.ts'
import { SYSCALL_BY_NR } from './table.ts'

const SHOWN = 40

/** The log beside the sentry's, or stderr. */
function straceFd(config: BootConfig): number {
  return config.debugLog === '' ? 2 : openSync(join(config.debugLog, `${config.id}.strace.log`), 'a', 0o600)
}

/** Returns what is to be called at the end. */
export function startDebugLog(kernel: Kernel, config: BootConfig, gofer: GoferClient): () => void {
  if (config.strace) startStrace(kernel, straceFd(config))
  if (config.debugLog === '') return () => {}
  const fd = openSync(join(config.debugLog, `${config.id}.sentry.log`), 'a', 0o600)
  const line = (text: string): void => {
    writeSync(fd, `${text}\n`)
  }
  line(`boot ${config.id}: platform ${kernel.platform.name}`)
  kernel.onUnimplemented = (nr) => line(`unimplemented system call ${nr} ${SYSCALL_BY_NR[nr]?.name ?? '?'}: ENOSYS`)
  const counts = new MessageCounts()
  gofer.counts = counts
  return () =>
    line(`system calls that the sentry answered: ${kernel.syscalls}\n${mostFrequent(kernel)}\n${counts.report()}`)
}

function mostFrequent(kernel: Kernel): string {
  const rows = [...kernel.callCounts].map((count, nr) => ({ count, name: SYSCALL_BY_NR[nr]?.name ?? String(nr) }))
  rows.sort((a, b) => b.count - a.count)
  const shown = rows.slice(0, SHOWN).filter((row) => row.count > 0)
  return shown.map(({ count, name }) => `  ${name.padEnd(20)}${String(count).padStart(8)}`).join('\n')
}
