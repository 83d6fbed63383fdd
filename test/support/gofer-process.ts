/**
 * A real gofer process for tests, confined when asked (needs root), and the sentry's client connected to it.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync } from 'node:fs'
import { join } from 'node:path'
import { lseek, memfdCreate, socketpair, write } from '../../native/host.ts'
import { distDir } from '../../native/library.ts'
import { GoferClient } from '../../sentry/fs/gofer/client.ts'

const SOCK_SEQPACKET_CLOEXEC = 5 | 0o2000000

export interface GoferProcess {
  readonly client: GoferClient
  readonly socketFd: number
  readonly child: ChildProcess
  readonly exited: Promise<number | string>
  readonly stderr: () => string
  stop(): Promise<void>
}

export function startGofer(mounts: readonly object[], confine: boolean): GoferProcess {
  const pair = new Int32Array(2)
  if (socketpair(1, SOCK_SEQPACKET_CLOEXEC, 0, pair) < 0) throw new Error('socketpair')
  const config = memfdCreate('gofer-config', 1)
  const text = Buffer.from(JSON.stringify({ mounts, confine }))
  write(config, text, text.length)
  lseek(config, 0, 0)
  const dist = distDir()
  const node = [process.execPath, '--v8-pool-size=0', '--disable-sigusr1', join(dist, 'gofer.cjs')]
  const launch = [
    '--ns',
    confine ? 'mnt,ipc,uts,net' : '',
    '--keep-fd',
    '3-4',
    '--pdeathsig',
    '9',
    '--no-io-uring',
    '--',
  ]
  const child = spawn(join(dist, 'launch'), [...launch, ...node, '--config-fd', '3', '--socket-fd', '4'], {
    stdio: ['ignore', 'ignore', 'pipe', config, pair[1]!],
    cwd: '/',
  })
  let stderr = ''
  child.stderr!.on('data', (chunk) => {
    stderr += chunk
  })
  closeSync(config)
  closeSync(pair[1]!)
  const exited = new Promise<number | string>((resolve) => {
    child.on('exit', (code, signal) => resolve(code ?? signal!))
  })
  const socketFd = pair[0]!
  let open = true
  return {
    client: new GoferClient(socketFd),
    socketFd,
    child,
    exited,
    stderr: () => stderr,
    async stop() {
      if (open) closeSync(socketFd)
      open = false
      await exited
    },
  }
}
