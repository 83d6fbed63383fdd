/**
 * Entry of the gofer process (dist/gofer.cjs): read the configuration, load, confine, serve.
 * Usage and file descriptors: README.md.
 */
import { closeSync, readFileSync } from 'node:fs'
import { write } from '../native/host.ts'
import { exitGroup, umask } from '../native/host-confine.ts'
import { parseConfig } from './config.ts'
import { confine } from './confine.ts'
import { openMounts } from './mounts.ts'
import { Resolver } from './resolve.ts'
import { Server } from './server.ts'

function option(name: string): number {
  const at = process.argv.indexOf(name)
  const value = Number(at < 0 ? Number.NaN : process.argv[at + 1])
  if (!Number.isInteger(value) || value < 0) throw new Error(`${name} N is missing`)
  return value
}

function main(): number {
  const configFd = option('--config-fd')
  const socketFd = option('--socket-fd')
  const config = parseConfig(readFileSync(configFd, 'utf8'))
  closeSync(configFd)
  umask(0)
  if (config.confine) confine(config, socketFd)
  const { served, ids } = openMounts(config.mounts, config.confine)
  return new Server(socketFd, served, new Resolver(), ids).serve()
}

let status = 1
try {
  status = main() < 0 ? 1 : 0
} catch (error) {
  const line = Buffer.from(`gofer: ${(error as Error).message}\n`)
  write(2, line, line.length)
}
// Node's own way out makes calls that the filter takes for an intrusion (io_uring).
exitGroup(status)
