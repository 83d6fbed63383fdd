/**
 * The process of a real gofer for tests, confined when asked (needs root): what the sentry's (gofer-process.ts) and a virtual
 * machine's (vm-gofer.ts) have in common.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { lseek, memfdCreate, socketpair, write } from '../../native/host.ts'
import { distDir } from '../../native/library.ts'

const SOCK_CLOEXEC = 0o2000000
/** Its descriptor for the configuration; its connections follow. */
const CONFIG_FD = 3
export const FIRST_CONNECTION = CONFIG_FD + 1

export interface GoferChild {
  /** Our ends of its connections. */
  readonly fds: readonly number[]
  readonly child: ChildProcess
  readonly exited: Promise<number | string>
  readonly stderr: () => string
  stop(): Promise<void>
}

export interface GoferOptions {
  config: { mounts: readonly object[]; confine: boolean; maxDescriptors?: number }
  /** Of its connections' sockets (socket(2)). */
  socketType: number
  connections: number
  nodeFlags?: readonly string[]
  /** What tells it of its connections. */
  args: readonly string[]
}

export function spawnGofer({ config, socketType, connections, nodeFlags = [], args }: GoferOptions): GoferChild {
  const ours: number[] = []
  const theirs: number[] = []
  for (let i = 0; i < connections; i++) {
    const pair = new Int32Array(2)
    if (socketpair(1, socketType | SOCK_CLOEXEC, 0, pair) < 0) throw new Error('socketpair')
    ours.push(pair[0]!)
    theirs.push(pair[1]!)
  }
  const configFd = memfdCreate('gofer-config', 1)
  const text = Buffer.from(JSON.stringify(config))
  write(configFd, text, text.length)
  lseek(configFd, 0, 0)
  const dist = distDir()
  const kept = `${CONFIG_FD}-${CONFIG_FD + connections}`
  const namespaces = config.confine ? 'mnt,ipc,uts,net' : ''
  const launch = ['--ns', namespaces, '--keep-fd', kept, '--pdeathsig', '9', '--no-io-uring', '--']
  const node = [process.execPath, '--v8-pool-size=0', '--disable-sigusr1', ...nodeFlags]
  const gofer = [join(dist, 'gofer.cjs'), '--config-fd', String(CONFIG_FD), ...args]
  const child = spawn(join(dist, 'launch'), [...launch, ...node, ...gofer], {
    stdio: ['ignore', 'ignore', 'pipe', configFd, ...theirs],
    cwd: '/',
  })
  let stderr = ''
  child.stderr!.on('data', (chunk) => {
    stderr += chunk
  })
  for (const fd of [configFd, ...theirs]) closeSync(fd)
  const exited = new Promise<number | string>((resolve) => {
    child.on('exit', (code, signal) => resolve(code ?? signal!))
  })
  let open = true
  return {
    fds: ours,
    child,
    exited,
    stderr: () => stderr,
    async stop() {
      if (open) for (const fd of ours) closeSync(fd)
      open = false
      await exited
    },
  }
}

/** Stops it: it has had nothing to complain of, and ends in order. */
export async function stopsCleanly(gofer: GoferChild): Promise<void> {
  await gofer.stop()
  expect(gofer.stderr()).toBe('')
  expect(await gofer.exited).toBe(0)
}
