/** config.json's process as the sentry's ProcessSpec: names to numbers, strings to bytes, defaults filled in. */
import type { ProcessSpec } from '../../sentry/control/protocol.ts'
import { toBytes } from '../bytes.ts'
import { CliError } from '../errors.ts'
import { capabilityNumber } from './capabilities.ts'
import type { Process } from './oci.ts'
import { RLIMITS, rlimitValue } from './rlimits.ts'

function numbers(names: string[] | undefined, at: string): number[] {
  const out = (names ?? []).map((name, i) => {
    const n = capabilityNumber(name)
    if (n < 0) throw new CliError(`${at}[${i}]: unknown capability "${name}"`)
    return n
  })
  return [...new Set(out)].sort((a, b) => a - b)
}

/** `at` is what error messages start with: `config.json: process`. */
export function processSpec(process: Process, at: string): ProcessSpec {
  const caps = process.capabilities
  const spec: ProcessSpec = {
    args: process.args.map(toBytes),
    env: process.env.map(toBytes),
    cwd: toBytes(process.cwd),
    uid: process.user.uid,
    gid: process.user.gid,
    additionalGids: process.user.additionalGids,
    umask: process.user.umask ?? -1,
    capabilities: {
      bounding: numbers(caps?.bounding, `${at}.capabilities.bounding`),
      effective: numbers(caps?.effective, `${at}.capabilities.effective`),
      inheritable: numbers(caps?.inheritable, `${at}.capabilities.inheritable`),
      permitted: numbers(caps?.permitted, `${at}.capabilities.permitted`),
      ambient: numbers(caps?.ambient, `${at}.capabilities.ambient`),
    },
    rlimits: process.rlimits.map(({ type, soft, hard }, i) => {
      const resource = RLIMITS.indexOf(type.toUpperCase())
      if (resource < 0) throw new CliError(`${at}.rlimits[${i}].type: unknown limit "${type}"`)
      return { resource, soft: rlimitValue(soft), hard: rlimitValue(hard) }
    }),
    terminal: process.terminal,
    consoleSize: { rows: process.consoleSize?.height ?? 0, cols: process.consoleSize?.width ?? 0 },
    noNewPrivileges: process.noNewPrivileges,
  }
  if (process.oomScoreAdj !== undefined) spec.oomScoreAdj = process.oomScoreAdj
  return spec
}
