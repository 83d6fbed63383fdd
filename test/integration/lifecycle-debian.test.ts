/** Bundles from a debootstrap root. What their programs print is compared with a native chroot of the same tree. */
import { spawnSync } from 'node:child_process'
import { afterAll, describe, expect, test } from 'vitest'
import { debianRoot } from '../support/roots.ts'
import { Workspace } from '../support/tssandbox.ts'

const root = debianRoot()
const rootfs = 'path' in root ? root.path : ''
const why = process.getuid?.() !== 0 ? 'not root' : 'missing' in root ? root.missing : ''
const ENV = ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'LANG=C.UTF-8', 'HOME=/root']

describe.skipIf(why)(`bundles from a debootstrap root ${why}`, () => {
  const w = new Workspace()
  afterAll(() => void w.clean())
  let ids = 0
  const run = (args: string[], readonly = true) => {
    const dir = w.bundle(rootfs, args, (c) => {
      c.process.env = ENV
      c.root.readonly = readonly
      const caps = ['CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_FOWNER', 'CAP_FSETID', 'CAP_SETUID', 'CAP_SETGID', 'CAP_KILL']
      c.process.capabilities = { bounding: caps, effective: caps, permitted: caps }
      c.process.rlimits = []
      c.mounts.push({ destination: '/tmp', type: 'tmpfs', source: 'tmpfs', options: ['mode=1777'] })
    })
    return w.cli('run', '-b', dir, `deb-${process.pid}-${ids++}`)
  }
  const native = (args: string[]) => {
    const env = Object.fromEntries(ENV.map((e) => e.split('=') as [string, string]))
    const r = spawnSync('chroot', [rootfs, ...args], { env, encoding: 'latin1' })
    return { code: r.status, out: r.stdout, err: r.stderr }
  }

  test.each([
    ['dpkg -l | cat'],
    ['cat /etc/os-release; ls -lR /etc | sort | sha256sum'],
    ['find /usr -xdev | sort | sha256sum; find /usr -type l -printf "%p %l\\n" | sort | sha256sum'],
    ['find /usr/bin /lib -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum'],
    ['perl -e \'print join(",", map { $_ * 2 } sort { $a <=> $b } 3, 1, 2), "\\n"; print `echo sub`; exit 4\''],
    ['getent passwd root; getent hosts localhost; id nobody'],
    ['printf "%s\\n" c a b | sort | tee /tmp/x >&2; wc -l < /tmp/x; rm /tmp/x'],
    ['tar -C /etc -cf - . | tar -tf - | sort | head -n 20; false'],
  ])('as in a native chroot: %s', (script) => {
    expect(run(['bash', '-c', script])).toEqual(native(['bash', '-c', script]))
  })

  test('su drops privileges', () => {
    const r = run(['bash', '-c', 'su -s /bin/sh nobody -c "id -un; touch /root/x" ; echo $?'])
    expect(r.out).toBe('nobody\n1\n')
    expect(r.err).toMatch(/touch.*\/root\/x.*Permission denied/)
  })
})
