/**
 * Entry of the gofer process (dist/gofer.cjs): read the configuration, load, confine, serve: a sentry, or a VM by FUSE and 9P.
 * Usage and file descriptors: README.md, fuse/README.md, ninep/README.md.
 */
import { closeSync, readFileSync } from 'node:fs'
import { getPriority, setPriority } from 'node:os'
import { write } from '../native/host.ts'
import { chdir, exitGroup, umask } from '../native/host-confine.ts'
import { phase, recordPhases } from '../native/phases.ts'
import { dropBinaryPages } from '../native/trim.ts'
import { type MountConfig, parseConfig } from './config.ts'
import { confine } from './confine.ts'
import { fuseSessions } from './fuse/server.ts'
import { type Begin, serveConnections } from './guest/connection.ts'
import { Descriptors } from './guest/descriptors.ts'
import { raiseDescriptorLimit } from './guest/limits.ts'
import { openMounts } from './mounts.ts'
import { must } from './must.ts'
import { beginNinep, makeExports } from './ninep/server.ts'
import { Resolver, type ServedMount } from './resolve.ts'
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

/** FIRST-LAST as a list; empty when the option is not there. */
function descriptorRange(name: string): number[] {
  const text = option(name)
  if (text === undefined) return []
  const [, first, last] = (/^(\d{1,6})-(\d{1,6})$/.exec(text) ?? []).map(Number)
  if (first === undefined || last === undefined || last < first) throw new Error(`${name} FIRST-LAST is missing`)
  return Array.from({ length: last - first + 1 }, (_, i) => first + i)
}

/** For 9P: see SINGLE_FILE in mounts.ts. */
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

/** Of a VM's connections: those by FUSE serve a mount each, in their order; any by 9P serves any. Not both in one gofer. */
function conversations(
  fuseFds: readonly number[],
  ninepFds: readonly number[],
  served: readonly ServedMount[],
  descriptors: Descriptors,
): Map<number, Begin> {
  const resolver = new Resolver()
  const all = new Map<number, Begin>()
  if (fuseFds.length > 0) {
    const mounts = served.filter((m) => m !== undefined)
    if (fuseFds.length > mounts.length) throw new Error('--fuse-fds: more than there are mounts')
    const session = fuseSessions(resolver, descriptors)
    for (const [i, fd] of fuseFds.entries()) all.set(fd, session(mounts[i]!))
  }
  if (ninepFds.length > 0) {
    const begin = beginNinep(makeExports(served, resolver, descriptors))
    for (const fd of ninepFds) all.set(fd, begin)
  }
  return all
}

function serve(): number {
  recordPhases(option('--phases-fd') === undefined ? -1 : descriptor('--phases-fd'), 'gofer')
  const configFd = descriptor('--config-fd')
  const fuseFds = descriptorRange('--fuse-fds')
  const ninepFds = descriptorRange('--ninep-fds')
  const isForVm = fuseFds.length + ninepFds.length > 0
  const socketFd = isForVm ? -1 : descriptor('--socket-fd')
  const config = parseConfig(readFileSync(configFd, 'utf8'))
  closeSync(configFd)
  umask(0)
  const maxDescriptors = isForVm ? raiseDescriptorLimit(config.maxDescriptors) : 0
  dropBinaryPages()
  if (!isForVm) goAhead()
  const byNinep = ninepFds.length > 0
  if (config.confine) confine(config, socketFd, byNinep)
  phase('confined')
  const { served, ids } = openMounts(
    byNinep && config.confine ? config.mounts.map(asFolder) : config.mounts,
    config.confine,
  )
  if (!isForVm) {
    const server = new Server(socketFd, served, new Resolver(), ids)
    phase('serves')
    return server.serve()
  }
  if (!config.confine) must('chdir to our descriptors', chdir('/proc/self/fd'))
  return serveConnections(conversations(fuseFds, ninepFds, served, new Descriptors(maxDescriptors)))
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
