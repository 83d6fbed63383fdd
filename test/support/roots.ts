/**
 * Root file systems for container tests, cached under /var/cache/tssandbox-test: one of busybox-static, one from
 * debootstrap. A function returns a folder, or why there is none, for the test to report as skipped.
 */
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { TSSANDBOX } from './run.ts'

export const CACHE = '/var/cache/tssandbox-test'

export type Root = { path: string } | { missing: string }

const isRoot = process.getuid?.() === 0

function install(packageName: string): boolean {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  const apt = () => spawnSync('apt-get', ['install', '-y', '--no-install-recommends', packageName], { env }).status
  return apt() === 0 || (spawnSync('apt-get', ['update'], { env }).status === 0 && apt() === 0)
}

/** Builds into a temporary folder and renames it, so that an interrupted build is not taken for a whole one. */
export function cached(name: string, build: (folder: string) => string | null): Root {
  const path = join(CACHE, name)
  if (existsSync(path)) return { path }
  if (!isRoot) return { missing: 'not root' }
  const temporary = `${path}.${process.pid}.tmp`
  rmSync(temporary, { recursive: true, force: true })
  mkdirSync(temporary, { recursive: true })
  const problem = build(temporary)
  if (problem) {
    rmSync(temporary, { recursive: true, force: true })
    return { missing: problem }
  }
  renameSync(temporary, path)
  return { path }
}

const PASSWD = 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n'
const GROUP = 'root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n'

export function busyboxRoot(): Root {
  return cached('busybox-1', (folder) => {
    const binary = '/bin/busybox'
    const isStatic = () => existsSync(binary) && !spawnSync('ldd', [binary]).stdout.toString().includes('=>')
    if (!isStatic() && !(install('busybox-static') && isStatic())) return 'busybox-static cannot be installed'
    for (const dir of ['bin', 'etc', 'root', 'home', 'proc', 'sys', 'dev', 'var', 'tmp'])
      mkdirSync(join(folder, dir), { recursive: true })
    chmodSync(join(folder, 'tmp'), 0o1777)
    cpSync(binary, join(folder, 'bin/busybox'), { dereference: true })
    const applets = spawnSync(binary, ['--list']).stdout.toString().trim().split('\n')
    for (const applet of applets) if (applet !== 'busybox') symlinkSync('busybox', join(folder, 'bin', applet))
    writeFileSync(join(folder, 'etc/passwd'), PASSWD)
    writeFileSync(join(folder, 'etc/group'), GROUP)
    return null
  })
}

/** Mirror and suite of the machine's own apt configuration, both of its formats. */
export function aptMirror(folder = '/etc/apt'): { uri: string; suite: string } | null {
  const files = [join(folder, 'sources.list')]
  const parts = join(folder, 'sources.list.d')
  if (existsSync(parts)) files.push(...readdirSync(parts).map((f) => join(parts, f)))
  for (const file of files.filter(existsSync)) {
    const text = readFileSync(file, 'utf8')
    for (const line of text.split('\n')) {
      const m = /^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s.*\bmain\b/.exec(line)
      if (m && isDebianSuite(m[2]!)) return { uri: m[1]!, suite: m[2]! }
    }
    for (const stanza of text.split(/\n\s*\n/)) {
      const field = (name: string) => new RegExp(`^${name}:\\s*(.+)$`, 'mi').exec(stanza)?.[1]?.trim().split(/\s+/)
      const suite = field('Suites')?.find(isDebianSuite)
      const uri = field('URIs')?.[0]
      if (suite && uri && field('Components')?.includes('main')) return { uri, suite }
    }
  }
  return null
}

const isDebianSuite = (s: string) =>
  /^(bullseye|bookworm|trixie|forky|sid|stable|testing|unstable|oldstable|jammy|noble)$/.test(s)

export function debianRoot(): Root {
  const mirror = aptMirror()
  if (!mirror) return { missing: 'no Debian mirror in the apt configuration' }
  return cached(`debian-${mirror.suite}-1`, (folder) => {
    if (spawnSync('sh', ['-c', 'PATH=$PATH:/usr/sbin command -v debootstrap']).status !== 0 && !install('debootstrap'))
      return 'debootstrap cannot be installed'
    const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg'
    const args = ['--variant=minbase', ...(existsSync(keyring) ? [`--keyring=${keyring}`] : [])]
    const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` }
    const r = spawnSync('debootstrap', [...args, mirror.suite, folder, mirror.uri], { env, timeout: 170_000 })
    const last = r.stdout?.toString().trim().split('\n').at(-1) ?? ''
    return r.status === 0 ? null : `debootstrap failed: ${last || r.error}`
  })
}

/** The root for containers in virtual machines, and why there can be none here; '': there can. */
export function vmRoot(): { rootfs: string; why: string } {
  const root = busyboxRoot()
  if (process.getuid?.() !== 0) return { rootfs: '', why: 'not root' }
  if ('missing' in root) return { rootfs: '', why: root.missing }
  return { rootfs: root.path, why: existsSync('/usr/bin/qemu-system-x86_64') ? '' : 'qemu-system-x86 is not installed' }
}

/** What each start of a VM needs, prepared once; some minutes the first time. */
export function setUpVms(): void {
  const r = spawnSync(TSSANDBOX, ['microvm', 'setup'], { encoding: 'utf8' })
  if (r.status !== 0) throw new Error(`microvm setup: ${r.stderr}`)
}
