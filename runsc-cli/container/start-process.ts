/** Starts one process of a sandbox, with what `native/launch` prepares for it: namespaces, cgroups, limits, descriptors. */
import { closeSync, read, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { distDir } from '../../native/library.ts'
import { spawnProcess } from '../../native/spawn.ts'
import { orderWaiting } from '../../native/waiting.ts'
import { CliError } from '../errors.ts'
import { until } from './liveness.ts'

export type Program = 'gofer' | 'sentry' | 'microvm'

interface Start {
  program: Program
  /** Options of native/launch. */
  launch: string[]
  args: string[]
  fds: number[]
}

interface Started {
  pid: number
  /** Settles when it has its namespaces, or has ended. */
  prepared(): Promise<void>
}

/** By the copy of this process that waits for it, or else by Node anew. */
export function startProcess({ program, launch, args, fds }: Start): Started {
  const title = `tssandbox-${program}`
  const copy = orderWaiting(program, { launch, title, args }, fds)
  if (copy !== null) return { pid: copy.pid, prepared: () => ended(copy.channel) }
  const dist = distDir()
  // native/load.ts
  const train = process.env['TSSANDBOX_TRAIN']
  const words = [
    join(dist, 'launch'),
    ...launch,
    ...(fds.length > 3 ? ['--keep-fd', `3-${fds.length - 1}`] : []),
    ...(train ? ['--env', `TSSANDBOX_TRAIN=${train}`] : []),
    ...['--argv0', title, '--', process.execPath, ...process.execArgv, join(dist, `${program}.cjs`), ...args],
  ]
  const pid = spawnProcess(words, fds)
  if (pid < 0) throw new CliError(`cannot run ${words[0]} (errno ${-pid}): is the project built?`)
  return { pid, prepared: () => launched(pid) }
}

/** The channel of a copy ends with its preparation. */
function ended(channel: number): Promise<void> {
  return new Promise((resolve) =>
    read(channel, Buffer.alloc(1), 0, 1, null, () => {
      closeSync(channel)
      resolve()
    }),
  )
}

/** `launch` has made the namespaces when it is replaced by Node. */
async function launched(pid: number): Promise<void> {
  await until(() => {
    try {
      return !readlinkSync(`/proc/${pid}/exe`).endsWith('/launch')
    } catch {
      return true
    }
  }, 10_000)
}
