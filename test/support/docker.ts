/** The tests' own Docker daemon (scripts/docker-setup.sh) with an image made of the busybox root; nothing is pulled. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { busyboxRoot } from './roots.ts'

export const IMAGE = 'tssandbox-test/busybox'

export interface DockerResult {
  code: number | null
  out: string
  err: string
}

const client = existsSync('/usr/bin/docker') ? '/usr/bin/docker' : 'docker'

export class Docker {
  private readonly host: string

  constructor(host: string) {
    this.host = host
  }

  private env(): NodeJS.ProcessEnv {
    return { ...process.env, DOCKER_HOST: this.host }
  }

  run(args: string[], input = ''): DockerResult {
    const r = spawnSync(client, args, { env: this.env(), input, timeout: 60_000, encoding: 'latin1' })
    return { code: r.status, out: r.stdout ?? '', err: r.stderr ?? '' }
  }

  cli(...args: string[]): DockerResult {
    return this.run(args)
  }

  spawn(...args: string[]): ChildProcess {
    return spawn(client, args, { env: this.env(), stdio: ['pipe', 'pipe', 'pipe'] })
  }

  /** On a terminal of util-linux's script(1). */
  spawnOnTerminal(...args: string[]): ChildProcess {
    const line = [client, ...args].map((a) => `'${a.replaceAll("'", "'\\''")}'`).join(' ')
    return spawn('script', ['-qefc', line, '/dev/null'], { env: this.env(), stdio: ['pipe', 'pipe', 'pipe'] })
  }
}

/** Starts the daemon and imports the image, or says why that cannot be. */
export function setUpDocker(): { docker: Docker } | { missing: string } {
  if (process.getuid?.() !== 0) return { missing: 'not root' }
  const root = busyboxRoot()
  if ('missing' in root) return root
  const started = spawnSync('sh', ['scripts/docker-setup.sh', 'start'], { encoding: 'utf8', timeout: 170_000 })
  if (started.status !== 0) return { missing: started.stderr.trim().split('\n').at(-1) || 'no Docker' }
  const docker = new Docker(started.stdout.trim().split('\n').at(-1)!)
  if (docker.cli('image', 'inspect', IMAGE).code !== 0) {
    const host = started.stdout.trim().split('\n').at(-1)!
    const script = `tar -C '${root.path}' -c . | '${client}' -H '${host}' import - '${IMAGE}'`
    const imported = spawnSync('sh', ['-c', script], { encoding: 'utf8' })
    if (imported.status !== 0) return { missing: `docker import: ${imported.stderr.trim()}` }
  }
  return { docker }
}

export function tearDownDocker(): void {
  spawnSync('sh', ['scripts/docker-setup.sh', 'stop'], { timeout: 60_000 })
}
