/** The root file systems that all ways share, kept under /var/cache/tssandbox-test, and a fresh overlay for each container. */
import { execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { cached, debianRoot, type Root } from '../test/support/roots.ts'

const HERE = import.meta.dirname
/** What the macro rows run. */
const PACKAGES = [
  ...['python3', 'nodejs', 'git', 'make', 'gcc', 'libc6-dev', 'linux-libc-dev', 'gzip', 'sqlite3'],
  ...['redis-server', 'redis-tools', 'nginx-light', 'wrk', 'sysbench', 'procps'],
]

/** Without programs it is the plain Debian that the tests have too. */
export function benchRoot(programs: boolean): Root {
  const debian = debianRoot()
  if ('missing' in debian || !programs) return debian
  return cached('bench-bookworm-2', (folder) => {
    if (spawnSync('cp', ['-a', `${debian.path}/.`, folder]).status !== 0) return 'cannot copy the Debian root'
    const script = `export DEBIAN_FRONTEND=noninteractive; printf 'exit 101\\n' >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d
      apt-get update && apt-get install -y --no-install-recommends ${PACKAGES.join(' ')} && apt-get clean`
    const r = spawnSync('chroot', [folder, 'sh', '-c', script], { encoding: 'utf8', timeout: 900_000 })
    if (r.status !== 0) return `packages cannot be installed: ${r.stderr.trim().split('\n').at(-1)}`
    copyFileSync(join(HERE, 'fixtures.sh'), join(folder, 'fixtures.sh'))
    const made = spawnSync('chroot', [folder, 'bash', '/fixtures.sh'], { encoding: 'utf8', timeout: 120_000 })
    if (made.status !== 0) return `fixtures.sh failed: ${made.stderr.trim().split('\n').at(-1)}`
    rmSync(join(folder, 'fixtures.sh'))
    return null
  })
}

/** The micro benchmark: static, so that it runs in any root. */
export function compileMicro(work: string): string {
  const program = join(work, 'micro')
  const sources = ['main', 'calls', 'exchange', 'memory', 'processes'].map((name) => join(HERE, `micro/${name}.c`))
  execFileSync('cc', ['-O2', '-static', '-pthread', '-Wall', '-o', program, ...sources], { stdio: 'inherit' })
  return program
}

/** A root of its own over the cached one, with /bench in it. */
export function mountRoot(work: string, id: string, lower: string): string {
  const folder = join(work, `root-${id}`)
  const [upper, scratch, root] = ['upper', 'work', 'rootfs'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ]
  for (const dir of [upper, scratch, root]) mkdirSync(dir, { recursive: true })
  mkdirSync(join(upper, 'bench'))
  copyFileSync(join(work, 'micro'), join(upper, 'bench/micro'))
  copyFileSync(join(HERE, 'macro.sh'), join(upper, 'bench/macro.sh'))
  const options = `lowerdir=${lower},upperdir=${upper},workdir=${scratch}`
  execFileSync('mount', ['-t', 'overlay', '-o', options, 'overlay', root])
  return root
}

export function unmountRoot(work: string, id: string): void {
  const folder = join(work, `root-${id}`)
  if (spawnSync('umount', [join(folder, 'rootfs')], { stdio: 'ignore' }).status !== 0)
    spawnSync('umount', ['-l', join(folder, 'rootfs')])
  rmSync(folder, { recursive: true, force: true })
}

/** What is still mounted after a run that was interrupted. */
export function unmountAll(work: string): void {
  for (const name of readdirSync(work)) if (name.startsWith('root-')) unmountRoot(work, name.slice('root-'.length))
}
