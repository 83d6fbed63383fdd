/** The flags before the command, as every command sees them. */
import { getuid } from 'node:process'
import type { MicrovmConfig, PlatformName } from '../sentry/control/protocol.ts'

export interface GlobalOptions {
  /** Where containers' state lives. */
  root: string
  log: string
  logFormat: 'text' | 'json'
  debug: boolean
  systemdCgroup: boolean
  ignoreCgroups: boolean
  rootless: boolean
  platform: PlatformName
  microvm: MicrovmConfig
  network: 'none' | 'host'
  debugLog: string
  strace: boolean
}

/** /run/tssandbox, or a folder of the user's own. */
export function defaultRoot(): string {
  const runtimeDir = process.env.XDG_RUNTIME_DIR
  return getuid?.() !== 0 && runtimeDir ? `${runtimeDir}/tssandbox` : '/run/tssandbox'
}
