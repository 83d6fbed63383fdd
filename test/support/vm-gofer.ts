/** A real gofer process as virtual machines have it; confined when asked (needs root). */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync } from 'node:fs'
import { join } from 'node:path'
import { lseek, memfdCreate, socketpair, write } from '../../native/host.ts'
import { distDir } from '../../native/library.ts'

export interface VmGofer {
  /** Our ends of its connections. */
  readonly fds: number[]
  readonly child: ChildProcess
  readonly exited: Promise<number | string>
  readonly stderr: () => string
  stop(): Promise<void>
}

const SOCK_STREAM_CLOEXEC = 1 | 0o2000000

export function startVmGofer(
  mounts: readonly object[],
  confine: boolean,
  option: '--fuse-fds' | '--ninep-fds',
  connections: number,
  maxDescriptors?: number,
): VmGofer {
  const ours: number[] = []
  const theirs: number[] = []
  for (let i = 0; i < connections; i++) {
    const pair = new Int32Array(2)
    if (socketpair(1, SOCK_STREAM_CLOEXEC, 0, pair) < 0) throw new Error('socketpair')
    ours.push(pair[0]!)
    theirs.push(pair[1]!)
  }
  const config = memfdCreate('gofer-config', 1)
  const text = Buffer.from(JSON.stringify({ mounts, confine, maxDescriptors }))
  write(config, text, text.length)
  lseek(config, 0, 0)
  const dist = distDir()
  const last = 3 + connections
  const launch = [
    '--ns',
    confine ? 'mnt,ipc,uts,net' : '',
    '--keep-fd',
    `3-${last}`,
    '--pdeathsig',
    '9',
    '--no-io-uring',
  ]
  const node = [process.execPath, '--v8-pool-size=0', '--disable-sigusr1', '--max-semi-space-size=1']
  const gofer = [join(dist, 'gofer.cjs'), '--config-fd', '3', option, `4-${last}`]
  const child = spawn(join(dist, 'launch'), [...launch, '--', ...node, ...gofer], {
    stdio: ['ignore', 'ignore', 'pipe', config, ...theirs],
    cwd: '/',
  })
  let stderr = ''
  child.stderr!.on('data', (chunk) => {
    stderr += chunk
  })
  closeSync(config)
  for (const fd of theirs) closeSync(fd)
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
