/**
 * Entry of the gofer process (dist/gofer.cjs): read the configuration, load, confine, serve.
 * Usage and file descriptors: README.md.
 */
import { closeSync, readFileSync } from 'node:fs'
import { umask } from '../native/host-confine.ts'
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

try {
  const result = main()
  process.exitCode = result < 0 ? 1 : 0
  process.exit()
} catch (error) {
  process.stderr.write(`gofer: ${(error as Error).message}\n`)
  process.exit(1)
}
