/**
 * Docker with this runtime, on a daemon of the tests' own. TSSANDBOX_TEST_DOCKER_RUNTIME=runc runs the same tests with
 * runc, to check them; exit codes are compared with runc's in any case.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { type Docker, IMAGE, setUpDocker, tearDownDocker } from '../support/docker.ts'
import { finished, until } from '../support/tssandbox.ts'

const RUNTIME = process.env.TSSANDBOX_TEST_DOCKER_RUNTIME ?? 'tssandbox'
const setUp = setUpDocker()
const why = 'missing' in setUp ? setUp.missing : ''
const docker = ('docker' in setUp ? setUp.docker : null) as Docker

describe.skipIf(why)(`docker run --runtime=${RUNTIME} ${why}`, () => {
  const base = mkdtempSync(join(tmpdir(), 'tssandbox-docker-'))
  let count = 0
  const newName = () => `tssandbox-test-${process.pid}-${count++}`
  const run = (flags: string[], ...command: string[]) =>
    docker.cli('run', '--rm', '--runtime', RUNTIME, ...flags, IMAGE, ...command)
  const sh = (script: string, ...flags: string[]) => run(flags, 'sh', '-c', script)
  const none = ['--network', 'none']

  afterAll(() => {
    const ids = docker.cli('ps', '-aq', '--filter', 'name=tssandbox-test-').out.split('\n').filter(Boolean)
    if (ids.length) docker.cli('rm', '-f', ...ids)
    rmSync(base, { recursive: true, force: true })
    tearDownDocker()
  })

  test('output and exit code', () => {
    expect(sh('echo out; echo err >&2; exit 7', ...none)).toEqual({ code: 7, out: 'out\n', err: 'err\n' })
  })

  test.each([
    [['sh', '-c', 'exit 0']],
    [['sh', '-c', 'exit 255']],
    [['sh', '-c', 'sh -c "kill -9 \\$\\$"']],
    [['sh', '-c', 'sh -c "kill -ABRT \\$\\$"; exit $?']],
    [['no-such-program']],
    [['/etc']],
    [['/etc/passwd']],
  ])('exit code as with runc: %j', (command) => {
    const mine = docker.cli('run', '--rm', '--runtime', RUNTIME, ...none, IMAGE, ...command)
    const reference = docker.cli('run', '--rm', '--runtime', 'runc', ...none, IMAGE, ...command)
    expect(mine.code).toBe(reference.code)
  })

  test.skipIf(!['tssandbox-vm', 'runc'].includes(RUNTIME))(
    'a kernel of its own enforces Docker’s seccomp profile',
    () => {
      const script = 'grep ^Seccomp: /proc/self/status; unshare -U true; echo $?'
      expect(sh(script, ...none)).toMatchObject({ code: 0, out: 'Seccomp:\t2\n1\n' })
      expect(sh(script, ...none, '--security-opt', 'no-new-privileges').out).toBe('Seccomp:\t2\n1\n')
      expect(sh(script, ...none, '--security-opt', 'seccomp=unconfined').out).toBe('Seccomp:\t0\n0\n')
    },
  )

  test('-i: stdin reaches the container and its end does, too', () => {
    const r = docker.run(['run', '--rm', '-i', '--runtime', RUNTIME, ...none, IMAGE, 'wc', '-c'], 'x'.repeat(100_000))
    expect(r).toMatchObject({ code: 0, out: '100000\n' })
  })

  test('-t: a terminal', async () => {
    const child = docker.spawnOnTerminal('run', '--rm', '-it', '--runtime', RUNTIME, ...none, IMAGE, 'sh')
    const end = finished(child)
    child.stdin!.write('test -t 0 && test -t 1 && echo is a t"t"y\n')
    let seen = ''
    child.stdout!.on('data', (d: Buffer) => (seen += d))
    await until(() => seen.includes('is a tty\r\n'), 20_000)
    child.stdin!.write('exit 6\n')
    expect(await end).toMatchObject({ code: 6 })
  })

  test('-e -w -u -h', () => {
    const r = sh(
      'echo $A; pwd; id -u; id -g; hostname',
      '-e',
      'A=b c',
      '-w',
      '/tmp',
      '-u',
      '1000:7',
      '-h',
      'box',
      ...none,
    )
    expect(r).toEqual({ code: 0, out: 'b c\n/tmp\n1000\n7\nbox\n', err: '' })
  })

  test('-v: folders and files, read-write and read-only', () => {
    writeFileSync(join(base, 'in'), 'from the host\n')
    const r = sh(
      'cat /data/in /one; echo back > /data/out; touch /ro/x',
      ...['-v', `${base}:/data`, '-v', `${base}:/ro:ro`, '-v', `${join(base, 'in')}:/one:ro`, ...none],
    )
    expect(r.out).toBe('from the host\nfrom the host\n')
    expect(r.err).toMatch(/Read-only file system/)
    expect(readFileSync(join(base, 'out'), 'utf8')).toBe('back\n')
  })

  test('--tmpfs and --read-only', () => {
    const r = sh(
      'touch /x; echo ok > /scratch/x && cat /scratch/x',
      '--read-only',
      '--tmpfs',
      '/scratch:size=1m',
      ...none,
    )
    expect(r).toMatchObject({ code: 0, out: 'ok\n', err: expect.stringContaining('Read-only file system') })
  })

  test('--network none: loopback and nothing else', () => {
    expect(sh('ls /sys/class/net; cat /proc/net/dev | grep -c :', ...none).out).toBe('lo\n1\n')
  })

  test('--network bridge: an address, a peer that can be reached', async () => {
    const server = newName()
    const served = docker.cli(
      'run',
      '-d',
      '--name',
      server,
      '--runtime',
      RUNTIME,
      IMAGE,
      'sh',
      '-c',
      'echo hello | nc -l -p 77',
    )
    expect(served).toMatchObject({ code: 0 })
    const ip = docker.cli('inspect', '-f', '{{.NetworkSettings.IPAddress}}', server).out.trim()
    expect(ip).toMatch(/^\d+\.\d+\.\d+\.\d+$/)
    let got = ''
    await until(() => (got = sh(`nc -w 2 ${ip} 77 < /dev/null`).out) === 'hello\n', 30_000)
    expect(got).toBe('hello\n')
  })

  test('--network host: sees the host’s sockets', () => {
    expect(sh('cat /etc/hostname > /dev/null; echo ok', '--network', 'host')).toMatchObject({ code: 0, out: 'ok\n' })
  })

  test('--memory and --pids-limit', () => {
    expect(sh('echo ok', '--memory', '64m', ...none)).toMatchObject({ code: 0, out: 'ok\n' })
    const r = sh(
      'i=0; while [ $i -lt 30 ]; do sleep 3 & i=$((i+1)); done; echo unreached',
      '--pids-limit',
      '8',
      ...none,
    )
    expect(r.out).toBe('')
    expect(r.err).toMatch(/can't fork|Resource temporarily unavailable/)
  })

  test('exec, logs, top, stop with a handler', () => {
    const name = newName()
    const script = 'trap "echo bye; exit 5" TERM; echo hello; while :; do sleep 0.05; done'
    docker.cli('run', '-d', '--name', name, '--runtime', RUNTIME, ...none, IMAGE, 'sh', '-c', script)
    expect(docker.cli('exec', name, 'sh', '-c', 'echo inside; exit 4')).toEqual({ code: 4, out: 'inside\n', err: '' })
    expect(docker.run(['exec', '-i', name, 'cat'], 'through')).toMatchObject({ code: 0, out: 'through' })
    expect(
      docker.cli('exec', '-e', 'A=b', '-u', '1000', '-w', '/etc', name, 'sh', '-c', 'echo $A; id -u; pwd').out,
    ).toBe('b\n1000\n/etc\n')
    expect(docker.cli('exec', '-d', name, 'sh', '-c', 'echo x > /tmp/mark').code).toBe(0)
    expect(
      docker.cli('exec', name, 'sh', '-c', 'while [ ! -s /tmp/mark ]; do sleep 0.1; done; cat /tmp/mark').out,
    ).toBe('x\n')
    expect(docker.cli('top', name).code).toBe(0)
    expect(docker.cli('stop', '-t', '10', name).code).toBe(0)
    expect(docker.cli('inspect', '-f', '{{.State.ExitCode}} {{.State.Status}}', name).out).toBe('5 exited\n')
    expect(docker.cli('logs', name).out).toBe('hello\nbye\n')
    expect(docker.cli('start', name).code).toBe(0)
    expect(docker.cli('rm', '-f', name).code).toBe(0)
  })

  test('exec -t', async () => {
    const name = newName()
    docker.cli('run', '-d', '--name', name, '--runtime', RUNTIME, ...none, IMAGE, 'sleep', '1000')
    const child = docker.spawnOnTerminal('exec', '-it', name, 'sh', '-c', 'test -t 0 && echo is a t"t"y; exit 3')
    expect(await finished(child)).toMatchObject({ code: 3, out: expect.stringContaining('is a tty\r\n') })
    expect(docker.cli('rm', '-f', name).code).toBe(0)
  })

  test('kill: 137; pause and unpause', () => {
    const name = newName()
    docker.cli('run', '-d', '--name', name, '--runtime', RUNTIME, ...none, IMAGE, 'sleep', '1000')
    expect(docker.cli('pause', name).code).toBe(0)
    expect(docker.cli('inspect', '-f', '{{.State.Status}}', name).out).toBe('paused\n')
    expect(docker.cli('unpause', name).code).toBe(0)
    expect(docker.cli('update', '--memory', '128m', '--memory-swap', '256m', name).code).toBe(0)
    expect(docker.cli('stats', '--no-stream', '--format', '{{.Name}}', name).out).toBe(`${name}\n`)
    expect(docker.cli('kill', name).code).toBe(0)
    expect(docker.cli('wait', name).out).toBe('137\n')
    expect(docker.cli('rm', name).code).toBe(0)
  })

  test('nothing is left of containers that are gone', () => {
    const ids = docker.cli('ps', '-aq', '--filter', 'name=tssandbox-test-').out.split('\n').filter(Boolean)
    if (ids.length) docker.cli('rm', '-f', ...ids)
    const shell = (script: string) => spawnSync('sh', ['-c', script], { encoding: 'utf8' }).stdout
    expect(shell('find /sys/fs/cgroup -mindepth 2 -type d -path "*/docker/*"')).toBe('')
    expect(shell('ls /var/lib/tssandbox-test/docker/exec/runtime-runc/moby 2>/dev/null')).toBe('')
    expect(shell('grep -c /var/lib/tssandbox-test/docker/data/overlay2 /proc/mounts').trim()).toBe('0')
  })

  test('info knows the runtime', () => {
    expect(docker.cli('info', '--format', '{{json .Runtimes}}').out).toContain(`"${RUNTIME}"`)
  })
})
