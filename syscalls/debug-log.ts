/**
 * What the sentry says about itself under --debug-log and --strace: one line per unimplemented call, and the trace.
 */
import { openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { BootConfig } from '../sentry/control/protocol.ts'
import type { Kernel } from '../sentry/kernel/kernel.ts'
import { SYSCALL_BY_NR } from './table.ts'

export function startDebugLog(kernel: Kernel, config: BootConfig): void {
  if (config.debugLog === '') return
  const fd = openSync(join(config.debugLog, `${config.id}.sentry.log`), 'a', 0o600)
  const line = (text: string): void => {
    writeSync(fd, `${text}\n`)
  }
  line(`boot ${config.id}: platform ${kernel.platform.name}`)
  kernel.onUnimplemented = (nr) => line(`unimplemented system call ${nr} ${SYSCALL_BY_NR[nr]?.name ?? '?'}: ENOSYS`)
}
