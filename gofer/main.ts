/**
 * Entry of the gofer process (dist/gofer.cjs): read the configuration, load, confine, serve: a sentry, or a VM by 9P.
 * Usage and file descriptors: README.md, ninep/README.md.
 */
import { closeSync, readFileSync } from 'node:fs'
import { getPriority, setPriority } from 'node:os'
import { write } from '../native/host.ts'
import { chdir, exitGroup, umask } from '../native/host-confine.ts'
import { phase, recordPhases } from '../native/phases.ts'
import { dropBinaryPages } from '../native/trim.ts'
import { type MountConfig, parseConfig } from './config.ts'
import { confine } from './confine.ts'
import { openMounts } from './mounts.ts'
import { must } from './must.ts'
import { raiseDescriptorLimit } from './ninep/limits.ts'
import { makeExports, serveConnections } from './ninep/server.ts'
import { Resolver } from './resolve.ts'
import { Server } from './server.ts'

function option(name: string): string | undefined {
  const at = process.argv.indexOf(name)
  return at < 0 ? undefined : process.argv[at + 1]
}

function descriptor(name: string): number {
  const value = Number(option(name))
  if (!Number.isInteger(value) || value < 0) throw new Error(`${name} N is missing`)
  return value
}

/** FIRST-LAST as a list; null when the option is not there. */
function descriptorRange(name: string): number[] | null {
  const text = option(name)
  if (text === undefined) return null
  const [, first, last] = (/^(\d{1,6})-(\d{1,6})$/.exec(text) ?? []).map(Number)
  if (first === undefined || last === undefined || last < first) throw new Error(`${name} FIRST-LAST is missing`)
  return Array.from({ length: last - first + 1 }, (_, i) => first + i)
}

/** See SINGLE_FILE in mounts.ts. */
const asFolder = (m: MountConfig): MountConfig => ({ ...m, kind: 'dir' })

/** Steps of nice that we are better than the guests, as the sentry is: it waits for us as they wait for it. */
const AHEAD = 10

function goAhead(): void {
  try {
    setPriority(Math.max(getPriority() - AHEAD, -20))
  } catch {
    // Without CAP_SYS_NICE all are equal.
  }
}

function serve(): number {
  recordPhases(option('--phases-fd') === undefined ? -1 : descriptor('--phases-fd'), 'gofer')
  const configFd = descriptor('--config-fd')
  const ninepFds = descriptorRange('--ninep-fds')
  const socketFd = ninepFds === null ? descriptor('--socket-fd') : -1
  const config = parseConfig(readFileSync(configFd, 'utf8'))
  closeSync(configFd)
  umask(0)
  const maxDescriptors = ninepFds === null ? 0 : raiseDescriptorLimit(config.maxDescriptors)
  dropBinaryPages()
  if (ninepFds === null) goAhead()
  if (config.confine) confine(config, socketFd)
  phase('confined')
  const { served, ids } = openMounts(
    ninepFds && config.confine ? config.mounts.map(asFolder) : config.mounts,
    config.confine,
  )
  if (ninepFds === null) {
    const server = new Server(socketFd, served, new Resolver(), ids)
    phase('serves')
    return server.serve()
  }
  if (!config.confine) must('chdir to our descriptors', chdir('/proc/self/fd'))
  return serveConnections(ninepFds, makeExports(served, new Resolver(), maxDescriptors))
}

export function main(): void {
  let status = 1
  try {
    status = serve() < 0 ? 1 : 0
    phase('exits')
  } catch (error) {
    const line = Buffer.from(`gofer: ${(error as Error).message}\n`)
    write(2, line, line.length)
  }
  exitGroup(status)
}
