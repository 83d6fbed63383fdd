/** `tssandbox do`: the command sees what it would see natively, and leaves nothing on the host. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { BIN, finished, sleep, until, Workspace } from '../support/tssandbox.ts'

const why = process.getuid?.() === 0 ? '' : 'not root'

describe.skipIf(why)(`do ${why}`, () => {
  const w = new Workspace()
  afterAll(() => void w.clean())
  const run = (...command: string[]) => w.run(['do', '--', ...command])

  test('exit codes of the command, of signals, and of commands that are not there', () => {
    expect(run('sh', '-c', 'exit 11')).toEqual({ code: 11, out: '', err: '' })
    expect(run('sh', '-c', 'sh -c "kill -TERM \\$\\$"').code).toBe(143)
    expect(run('no-such-program')).toMatchObject({ code: 127, err: expect.stringContaining('no-such-program') })
    expect(run('/etc/passwd')).toMatchObject({ code: 126, err: expect.stringContaining('/etc/passwd') })
  })

  test('arguments and environment are bytes', () => {
    // A shell makes the bytes; Node could not.
    const script = `${BIN} do -- printf '%s|' a "$(printf '\\377\\001')" "" "$V"`
    const r = spawnSync('sh', ['-c', `V=$(printf '\\200x') && export V && ${script}`], { encoding: 'latin1' })
    expect(r.stdout).toBe('a|\xff\x01||\x80x|')
  })

  test('cwd, env, umask, limits and groups are the caller’s', () => {
    const script = 'pwd; echo $MARK; umask; ulimit -n; id'
    const options = { cwd: w.base, env: { ...process.env, MARK: 'yes' }, encoding: 'utf8' as const }
    const mine = spawnSync(BIN, ['do', '--', 'sh', '-c', script], options)
    expect(mine.stderr).toBe('')
    expect(mine.stdout).toBe(execFileSync('sh', ['-c', script], options))
  })

  test('--cwd --env --hostname', () => {
    const r = w.run([
      'do',
      '--cwd',
      '/etc',
      '-e',
      'A=b',
      '--hostname',
      'box',
      '--',
      'sh',
      '-c',
      'pwd; echo $A; hostname',
    ])
    expect(r).toEqual({ code: 0, out: '/etc\nb\nbox\n', err: '' })
  })

  test('the host’s files can be read and are never changed', () => {
    const file = join(w.base, 'file')
    writeFileSync(file, 'before\n')
    const r = run(
      'sh',
      '-c',
      `cat ${file}; echo after > ${file}; cat ${file}; rm ${file}; touch ${file}.new; ls ${w.base}`,
    )
    expect(r.err).toBe('')
    expect(r.out).toMatch(/^before\nafter\n/)
    expect(r.out).toContain('file.new')
    expect(readFileSync(file, 'utf8')).toBe('before\n')
    expect(existsSync(`${file}.new`)).toBe(false)
  })

  test('--network none: only loopback', () => {
    const script = 'ls /sys/class/net; cat /proc/net/dev | grep -c :'
    expect(w.run(['do', '--network', 'none', '--', 'sh', '-c', script])).toEqual({ code: 0, out: 'lo\n1\n', err: '' })
    expect(w.run(['--network', 'none', 'do', 'sh', '-c', script]).out).toBe('lo\n1\n')
  })

  test('--strace on stderr', () => {
    expect(w.run(['do', '--strace', '--', 'true']).err).toMatch(/^\[pid +1\] exit_group\(0\) += \?$/m)
  })

  test('--volume writes through, unless :ro', () => {
    const dir = join(w.base, 'volume')
    mkdirSync(dir)
    const r = w.run([
      'do',
      '-v',
      `${dir}:/mnt/v`,
      '-v',
      `${dir}:/mnt/r:ro`,
      '--',
      'sh',
      '-c',
      'echo x > /mnt/v/x; > /mnt/r/y',
    ])
    expect(r.err).toMatch(/Read-only file system/)
    expect(readFileSync(join(dir, 'x'), 'utf8')).toBe('x\n')
    expect(existsSync(join(dir, 'y'))).toBe(false)
  })

  test('a signal to the CLI goes to the command', async () => {
    const child = w.spawn(
      'do',
      '--',
      'sh',
      '-c',
      'trap "echo got it; exit 8" TERM; echo ready; while :; do sleep 0.05; done',
    )
    const end = finished(child)
    await new Promise<void>((r) => child.stdout!.once('data', () => r()))
    child.kill('SIGTERM')
    expect(await end).toMatchObject({ code: 8, out: 'ready\ngot it\n' })
  })

  test('killing the CLI ends everything', async () => {
    const child = w.spawn('do', '--', 'sh', '-c', 'echo ready; sleep 1000')
    await new Promise<void>((r) => child.stdout!.once('data', () => r()))
    const children = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim().split(' ')
    expect(children).toHaveLength(2)
    child.kill('SIGKILL')
    const gone = (pid: string) =>
      !existsSync(`/proc/${pid}`) || /^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
    await until(() => children.every(gone))
  })

  test('killing the sentry or the gofer is said clearly', async () => {
    for (const name of ['tssandbox-sentry', 'tssandbox-gofer']) {
      const child = w.spawn('do', '--', 'sh', '-c', 'echo ready; while :; do ls / > /dev/null; sleep 0.1; done')
      const end = finished(child)
      await new Promise<void>((r) => child.stdout!.once('data', () => r()))
      process.kill(childNamed(child, name), 'SIGKILL')
      const r = await end
      expect(r.code).toBe(128)
      expect(r.err).toMatch(name === 'tssandbox-sentry' ? /sentry was killed by SIGKILL/ : /gofer/)
    }
  })

  const childNamed = (parent: ChildProcess, name: string): number => {
    const pids = readFileSync(`/proc/${parent.pid}/task/${parent.pid}/children`, 'utf8').trim().split(' ')
    return Number(pids.find((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith(name)))
  }

  describe('on a terminal', () => {
    const onTerminal = (line: string) =>
      spawn('script', ['-qefc', line, '/dev/null'], { stdio: ['pipe', 'pipe', 'pipe'] })

    test('is one, with the caller’s size, and is given back as it was', async () => {
      const inner = 'test -t 0 && test -t 1 && test -t 2 && stty size'
      const r = await finished(onTerminal(`stty rows 31 cols 91; stty -g; ${BIN} do -- sh -c '${inner}'; stty -g`))
      const lines = r.out.trim().split('\r\n')
      expect(lines[1]).toBe('31 91')
      expect(lines[2]).toBe(lines[0])
    })

    test('output that is redirected stays redirected', async () => {
      const file = join(w.base, 'redirected')
      await finished(
        onTerminal(`${BIN} do -- sh -c 'echo to the file; echo to the terminal >&2; test -t 1' > ${file}; echo $?`),
      )
      expect(readFileSync(file, 'utf8')).toBe('to the file\n')
    })

    test('^C interrupts the command, not the CLI', async () => {
      const child = onTerminal(
        `${BIN} do -- sh -c 'trap "echo caught; exit 5" INT; echo ready; while :; do sleep 0.05; done'`,
      )
      const end = finished(child)
      let seen = ''
      child.stdout!.on('data', (d: Buffer) => (seen += d))
      await until(() => seen.includes('ready'))
      await sleep(100)
      child.stdin!.write('\x03')
      expect(await end).toMatchObject({ code: 5, out: expect.stringContaining('caught') })
    })
  })

  test('--root is another tree', () => {
    const root = '/var/cache/tssandbox-test/busybox-1'
    if (!existsSync(root)) return
    expect(w.run(['do', '--root', root, '--', '/bin/ls', '/etc']).out).toBe('group\npasswd\n')
  })

  test('works from any directory, with an empty environment, through a symlink', () => {
    const link = join(w.base, 'link')
    execFileSync('ln', ['-s', BIN, link])
    const r = spawnSync(link, ['do', '--', '/bin/echo', 'ok'], { cwd: '/proc', env: {}, encoding: 'utf8' })
    expect(r).toMatchObject({ status: 0, stdout: 'ok\n', stderr: '' })
  })
})
