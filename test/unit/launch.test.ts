/**
 * dist/launch: what it prepares is what PROGRAM finds, and each failure is one line and an exit code of its own.
 */
import { spawnSync } from 'node:child_process'
import { chmodSync, closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { distDir } from '../../native/library.ts'

const isRoot = process.getuid?.() === 0

function launch(args: string[], extraFds: number[] = []) {
  const r = spawnSync(join(distDir(), 'launch'), args, {
    stdio: ['ignore', 'pipe', 'pipe', ...extraFds],
    encoding: 'latin1',
  })
  return { code: r.status, out: r.stdout, err: r.stderr }
}
const status = (options: string[], field: string) =>
  launch([...options, '--', '/bin/grep', `^${field}:`, '/proc/self/status'])
    .out.trim()
    .split(/\s+/)[1]

describe('launch', () => {
  it('explains failures in one line', () => {
    expect(launch(['--ns', 'pid', '/bin/true'])).toMatchObject({
      code: 125,
      err: 'launch: --ns: unknown namespace: pid\n',
    })
    expect(launch(['--wrong', 'x', '/bin/true'])).toMatchObject({
      code: 125,
      err: 'launch: unknown option: --wrong x\n',
    })
    expect(launch(['--nofile', '1x', '/bin/true']).code).toBe(125)
    expect(launch([]).code).toBe(125)
    const cgroup = launch(['--cgroup', '/nowhere', '/bin/true'])
    expect(cgroup).toMatchObject({
      code: 126,
      err: 'launch: cannot write 0 to /nowhere/cgroup.procs: No such file or directory\n',
    })
    expect(launch(['/nowhere'])).toMatchObject({
      code: 127,
      err: 'launch: cannot run /nowhere: No such file or directory\n',
    })
  })

  it('passes on the descriptors that were named and no others', () => {
    const fds = [0, 0, 0, 0].map(() => openSync('/dev/null', 'r'))
    const list = ['--', '/bin/sh', '-c', 'for i in 3 4 5 6; do test -e /proc/$$/fd/$i && echo $i; done; true']
    expect(launch(list, fds).out).toBe('')
    expect(launch(['--keep-fd', '4-5', ...list], fds).out).toBe('4\n5\n')
    expect(launch(['--keep-fd', '60', '--', '/bin/true'])).toMatchObject({ code: 126 })
    for (const fd of fds) closeSync(fd)
  })

  it('sets environment, name, folder, umask and limits', () => {
    const options = ['--clear-env', '--env', 'A=1', '--env', 'B=x=y', '--env', 'A=2', '--chdir', '/', '--umask', '027']
    const script = 'echo $0; pwd; umask; ulimit -n; ulimit -c; env | grep -v PWD | sort'
    const r = launch([...options, '--nofile', '100', '--no-core', '--argv0', 'name', '--', '/bin/sh', '-c', script])
    expect(r.out.split('\n')).toEqual(['name', '/', '0027', '100', '0', 'A=2', 'B=x=y', ''])
  })

  it('blocks and resets signals', () => {
    expect(status(['--block-sigchld'], 'SigBlk')).toBe('0000000000010000')
    expect(status(['--default-signals'], 'SigIgn')).toBe('0000000000000000')
  })

  it('takes privileges and io_uring away', () => {
    expect(status(['--no-new-privs'], 'NoNewPrivs')).toBe('1')
    expect(status(['--no-io-uring'], 'Seccomp')).toBe('2')
    if (isRoot) expect(status(['--bounding-caps', '3'], 'CapEff')).toBe('0000000000000003')
  })

  it.runIf(isRoot)('makes namespaces of its own', () => {
    const names = ['mnt', 'ipc', 'uts', 'net']
    const links = names.map((n) => `/proc/self/ns/${n}`)
    const here = spawnSync('readlink', links, { encoding: 'latin1' }).stdout.trim().split('\n')
    const there = launch(['--ns', names.join(), '--', '/usr/bin/readlink', ...links])
      .out.trim()
      .split('\n')
    expect(there).toHaveLength(4)
    for (let i = 0; i < 4; i++) expect(there[i]).not.toBe(here[i])
    const lo = launch(['--ns', 'net', '--loopback', '--', '/bin/cat', '/proc/net/if_inet6']).out
    expect(lo).toMatch(/ lo$/m)
    const mounts = launch(['--ns', 'mnt', '--', '/bin/cat', '/proc/self/mountinfo']).out
    expect(mounts).not.toContain('shared:')
  })

  it.runIf(isRoot)('lets a user keep what it is given of capabilities, and shows shares below /share', () => {
    const view = ['--ns', 'mnt', ...['/usr', '/lib', '/lib64', '/bin', '/proc'].flatMap((p) => ['--view', p])]
    const folder = mkdtempSync(join(tmpdir(), 'tssandbox-share-'))
    try {
      chmodSync(folder, 0o700)
      writeFileSync(join(folder, 'file'), 'text\n', { mode: 0o600 })
      const shares = ['--share', `0:ro:${folder}`, '--share', `7:rw:${join(folder, 'file')}`]
      const user = ['--user', '70000:70000', '--bounding-caps', '3', '--ambient-caps', '3', '--no-new-privs']
      const script =
        'cat /share/0/file; echo more >> /share/7/file; echo x > /share/0/file; grep CapEff /proc/self/status'
      const r = launch([...view, ...shares, ...user, '--', '/bin/sh', '-c', script])
      expect(r.out).toBe('text\nCapEff:\t0000000000000003\n')
      expect(r.err).toContain('Read-only file system')
      expect(readFileSync(join(folder, 'file'), 'utf8')).toBe('text\nmore\n')
      const missing = launch([...view, '--share', '0:rw:/nowhere', '--', '/bin/true'])
      expect(missing).toMatchObject({ code: 126, err: 'launch: view: 0:rw:/nowhere: No such file or directory\n' })
      expect(launch([...view, '--share', 'odd', '--', '/bin/true']).code).toBe(126)
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  })
})
