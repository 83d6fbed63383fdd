/** The root file system that every case runs in: Debian with Python, its tests and stress-ng; kept between runs. */
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { cached, debianRoot, type Root } from '../../test/support/roots.ts'

const PACKAGES = ['python3', 'libpython3.11-testsuite', 'stress-ng', 'netbase', 'tzdata']
const HOSTS = '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.0.1\tcompat\n'

export function compatRoot(): Root {
  const debian = debianRoot()
  if ('missing' in debian) return debian
  return cached('compat-bookworm-1', (folder) => {
    if (spawnSync('cp', ['-a', `${debian.path}/.`, folder]).status !== 0) return 'cannot copy the Debian root'
    const script = `export DEBIAN_FRONTEND=noninteractive; apt-get update &&
      apt-get install -y --no-install-recommends ${PACKAGES.join(' ')} && apt-get clean`
    const r = spawnSync('chroot', [folder, 'sh', '-c', script], { encoding: 'utf8' })
    if (r.status !== 0) return `packages cannot be installed: ${r.stderr.trim().split('\n').at(-1)}`
    writeFileSync(join(folder, 'etc/hosts'), HOSTS)
    writeFileSync(join(folder, 'etc/hostname'), 'compat\n')
    return null
  })
}
