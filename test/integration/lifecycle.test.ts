/** A container's life in bundles from a busybox root. With TSSANDBOX_TEST_RUNTIME=runc the same tests check themselves. */
import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { ConsoleReceiver } from '../support/console-receiver.ts'
import { build, guestPrograms, runNative } from '../support/guest.ts'
import { busyboxRoot } from '../support/roots.ts'
import { BIN, type Config, finished, sleep, until, Workspace } from '../support/tssandbox.ts'

const root = busyboxRoot()
const rootfs = 'path' in root ? root.path : ''
const why = process.getuid?.() !== 0 ? 'not root' : 'missing' in root ? root.missing : ''
const ownRuntime = BIN.endsWith('tssandbox')

const readText = (path: string) => (existsSync(path) ? readFileSync(path, 'utf8') : '')

/** Descriptors and system calls are not the host's then. */
const inVm = process.env['TSSANDBOX_TEST_PLATFORM'] === 'microvm'

describe.skipIf(why)(`life cycle of bundles from a busybox root ${why}`, () => {
  const w = new Workspace()
  afterAll(() => {
    w.clean()
    spawnSync('sh', ['-c', 'find /sys/fs/cgroup -depth -type d -name tssandbox-it -exec rmdir {} + 2> /dev/null'])
  })
  const sh = (script: string, change?: (c: Config) => void, copy = false) =>
    w.bundle(rootfs, ['sh', '-c', script], change, copy)
  let ids = 0
  const newId = () => `it-${process.pid}-${ids++}`
  const run = (script: string, change?: (c: Config) => void, input?: string) =>
    w.run(['run', '--bundle', sh(script, change), newId()], input)

  test('exit codes', () => {
    expect(run('exit 0')).toEqual({ code: 0, out: '', err: '' })
    expect(run('exit 3')).toEqual({ code: 3, out: '', err: '' })
    expect(run('sh -c "kill -9 \\$\\$"; echo $?')).toMatchObject({ code: 0, out: '137\n' })
    expect(run('sh -c "kill -SEGV \\$\\$"; echo $?')).toMatchObject({ out: '139\n' })
    // Init is protected from signals that it has no handler for, its own included.
    expect(run('kill -TERM $$; kill -KILL $$; echo alive')).toMatchObject({ code: 0, out: 'alive\n' })
  })

  test('stdin, stdout and stderr are separate and carry any byte', () => {
    const input = Array.from({ length: 200_000 }, (_, i) => String.fromCharCode((i * 7) % 128)).join('')
    const r = run('cat; echo problem >&2', undefined, input)
    expect(r.code).toBe(0)
    expect(r.err).toBe('problem\n')
    expect(r.out === input).toBe(true)
  })

  test('process: env, cwd, user, groups, umask, limits, capabilities', () => {
    const r = run(
      'env | sort; pwd; id -u; id -G; umask; ulimit -n; grep -E "^(CapEff|NoNewPrivs)" /proc/self/status',
      (c) => {
        Object.assign(c.process, {
          env: ['PATH=/bin', 'A=b c', 'HOME=/h'],
          cwd: '/etc',
          user: { uid: 1000, gid: 1000, additionalGids: [5, 7], umask: 0o27 },
          rlimits: [{ type: 'RLIMIT_NOFILE', soft: 333, hard: 444 }],
          capabilities: {},
          noNewPrivileges: true,
        })
      },
    )
    expect(r.err).toBe('')
    expect(r.out.split('\n')).toEqual(
      expect.arrayContaining([
        'A=b c',
        'HOME=/h',
        'PATH=/bin',
        '/etc',
        '1000',
        '1000 5 7',
        '0027',
        '333',
        'CapEff:\t0000000000000000',
        'NoNewPrivs:\t1',
      ]),
    )
  })

  test('trees that change while they are walked look as natively in a root of its own', {
    timeout: 120_000,
  }, async () => {
    const program = guestPrograms().find(({ name }) => name === 'directory_fuzz')!
    await build(program)
    const bundle = (name: string): string => {
      const dir = w.bundle(rootfs, ['/fuzz', name], undefined, true)
      copyFileSync(program.path, join(dir, 'rootfs/fuzz'))
      return dir
    }
    const tests = ['walks_1', 'walks_2', 'walks_3', 'walks_with_exchanges']
    for (const name of tests) {
      const native = await runNative(program, name)
      expect(native.code).toBe(0)
      expect(w.run(['run', '--bundle', bundle(name), newId()])).toEqual({ code: 0, out: native.stdout, err: '' })
    }
  })

  test('root has the capabilities that were granted, and no others', () => {
    const r = run('grep CapEff /proc/self/status; chown 5 /tmp 2>&1', (c) => {
      c.process.capabilities = { bounding: ['CAP_KILL'], effective: ['CAP_KILL'], permitted: ['CAP_KILL'] }
    })
    expect(r.out).toMatch(/CapEff:\t0000000000000020\nchown: .*(Read-only file system|Operation not permitted)/)
  })

  test('HOME comes from the container’s /etc/passwd', () => {
    const home = (uid: number) =>
      run('echo $HOME', (c) => {
        c.process.env = ['PATH=/bin']
        c.process.user = { uid, gid: 0 }
      }).out
    expect(home(0)).toBe('/root\n')
    expect(home(1000)).toBe('/home\n')
  })

  test('hostname, pids, own processes only', () => {
    const r = run('hostname; echo $$; ps | wc -l', (c) => {
      c.hostname = 'inside'
    })
    expect(r.out.split('\n').slice(0, 2)).toEqual(['inside', '1'])
    expect(Number(r.out.split('\n')[2])).toBeLessThanOrEqual(5)
  })

  test('a read-only root, tmpfs with a size, binds of folders and files', () => {
    const shared = join(w.base, 'shared')
    mkdirSync(shared)
    writeFileSync(join(shared, 'in'), 'from outside\n')
    const dir = sh(
      'touch /x; mount | grep " / " | grep -c "[(,]ro[,)]"; echo hi > /t/f && cat /t/f; stat -c %a /t;' +
        'dd if=/dev/zero of=/t/big bs=1k count=2000 2>&1 | grep -c "No space"; cat /rw/in; echo back > /rw/out;' +
        'touch /ro/x; cat /one; echo x > /one',
      (c) => {
        c.root.readonly = true
        c.mounts.push(
          { destination: '/t', type: 'tmpfs', source: 'tmpfs', options: ['size=1m', 'mode=1770'] },
          { destination: '/rw', type: 'bind', source: shared, options: ['rbind', 'rw'] },
          { destination: '/ro', type: 'bind', source: shared, options: ['bind', 'ro'] },
          { destination: '/one', type: 'bind', source: join(shared, 'in'), options: ['bind', 'ro'] },
        )
      },
      true,
    )
    const r = w.cli('run', '-b', dir, newId())
    expect(r.out.split('\n')).toEqual(['1', 'hi', '1770', '1', 'from outside', 'from outside', ''])
    expect(r.err).toMatch(/touch: \/x: Read-only file system\n.*\/ro\/x: Read-only.*\/one: Read-only/s)
    expect(readFileSync(join(shared, 'out'), 'utf8')).toBe('back\n')
  })

  test('a writable root keeps what was written', () => {
    const dir = sh('echo kept > /file; mkdir -p /a/b; ln -s /file /a/link; chmod 600 /file', undefined, true)
    expect(w.cli('run', '-b', dir, newId())).toEqual({ code: 0, out: '', err: '' })
    expect(readFileSync(join(dir, 'rootfs/file'), 'utf8')).toBe('kept\n')
    expect(existsSync(join(dir, 'rootfs/a/b'))).toBe(true)
  })

  test('masked and read-only paths', () => {
    const r = run(
      'cat /etc/passwd | wc -c; ls /home | wc -l; touch /proc/sys/kernel/hostname; echo x > /tmp/y',
      (c) => {
        c.linux.maskedPaths = ['/etc/passwd', '/home', '/not/there']
        c.linux.readonlyPaths = ['/proc/sys', '/not/there']
      },
    )
    expect(r.out).toBe('0\n0\n')
    expect(r.err).toMatch(/Read-only file system/)
  })

  test('create waits for start; signals reach init; state follows', async () => {
    const id = newId()
    const pidFile = join(w.base, 'pid')
    const dir = sh('trap "echo got TERM; exit 42" TERM; echo ready; while :; do sleep 0.05; done')
    expect(w.cli('create', '-b', dir, '--pid-file', pidFile, id)).toMatchObject({ code: 0, err: '' })
    const pid = Number(readFileSync(pidFile, 'utf8'))
    expect(w.status(id)).toBe('created')
    expect(JSON.parse(w.cli('state', id).out)).toMatchObject({ id, pid, bundle: dir, rootfs })
    expect(w.cli('start', id).code).toBe(0)
    expect(w.status(id)).toBe('running')
    await new Promise((r) => setTimeout(r, 300))
    expect(w.cli('kill', id, 'TERM').code).toBe(0)
    await until(() => w.status(id) === 'stopped')
    expect(w.cli('delete', id)).toEqual({ code: 0, out: '', err: '' })
    expect(w.status(id)).toBe('none')
  })

  test('run -d, kill KILL, delete', async () => {
    const id = newId()
    expect(w.cli('run', '-d', '-b', sh('sleep 1000'), id).code).toBe(0)
    expect(w.cli('delete', id).code).not.toBe(0)
    expect(w.cli('kill', id, '9').code).toBe(0)
    await until(() => w.status(id) === 'stopped')
    expect(w.cli('delete', id).code).toBe(0)
  })

  test('a container killed from outside ends its run with 137', async () => {
    const id = newId()
    const child = w.spawn('run', '-b', sh('echo ready; sleep 1000'), id)
    const end = finished(child)
    await until(() => w.status(id) === 'running')
    w.cli('kill', id, 'KILL')
    expect(await end).toMatchObject({ code: 137 })
    expect(w.status(id)).toBe('none')
  })

  test('signals to a foreground run go to init', async () => {
    const child = w.spawn('run', '-b', sh('trap "exit 9" INT; echo ready; while :; do sleep 0.05; done'), newId())
    const end = finished(child)
    await new Promise<void>((r) => child.stdout!.once('data', () => r()))
    child.kill('SIGINT')
    expect(await end).toMatchObject({ code: 9, out: 'ready\n' })
  })

  test('exec: output, exit code, environment, user, missing program', () => {
    const id = newId()
    w.cli('run', '-d', '-b', sh('sleep 1000'), id)
    expect(w.run(['exec', id, 'sh', '-c', 'cat; exit 5'], 'input')).toEqual({ code: 5, out: 'input', err: '' })
    expect(
      w.cli('exec', '-e', 'X=y', '--cwd', '/etc', '-u', '1000:1000', id, 'sh', '-c', 'echo $X; pwd; id -u').out,
    ).toBe('y\n/etc\n1000\n')
    expect(w.cli('exec', id, 'sh', '-c', 'kill -9 $$').code).toBe(137)
    const missing = w.cli('exec', id, 'nothing-of-that-name')
    expect(missing.code).not.toBe(0)
    expect(missing.err).toMatch(/nothing-of-that-name.*not found/)
    expect(w.cli('ps', id).out).toMatch(/sleep 1000/)
    w.cli('delete', '-f', id)
  })

  test('exec --detach: a host process stands for it', async () => {
    const id = newId()
    w.cli('run', '-d', '-b', sh('sleep 1000'), id)
    const pidFile = join(w.base, 'exec-pid')
    const processFile = join(w.base, 'process.json')
    const spec = { args: ['sh', '-c', 'sleep 1000'], cwd: '/', env: ['PATH=/bin'], user: { uid: 0, gid: 0 } }
    writeFileSync(processFile, JSON.stringify(spec))
    expect(w.cli('exec', '-p', processFile, '-d', '--pid-file', pidFile, id)).toMatchObject({ code: 0, err: '' })
    const pid = Number(readFileSync(pidFile, 'utf8'))
    const guests = () =>
      w
        .cli('exec', id, 'ps')
        .out.split('\n')
        .filter((l) => /sleep 1000$/.test(l)).length
    const before = guests()
    process.kill(pid, 'SIGKILL')
    await until(() => guests() < before)
    w.cli('delete', '-f', id)
  })

  test('--console-socket: a terminal with a size, echo and job control', async () => {
    const id = newId()
    const console_ = new ConsoleReceiver(join(w.base, 'c.sock'))
    const dir = w.bundle(rootfs, ['sh'], (c) => {
      c.process.terminal = true
      c.process.consoleSize = { height: 30, width: 100 }
    })
    const created = finished(w.spawn('create', '-b', dir, '--console-socket', console_.path, id))
    await console_.receive()
    expect(await created).toMatchObject({ code: 0 })
    w.cli('start', id)
    console_.type('stty size; tty\n')
    await console_.sees(/30 100\r\n\/dev\/(console|pts\/\d+)\r\n/)
    console_.resize(40, 120)
    console_.type('sleep 0.2; stty size\n')
    await console_.sees(/40 120\r\n/)
    console_.type('echo now; cat\n')
    await console_.sees(/now\r\n/)
    console_.type('\x03')
    // The interrupt flushes what has been typed ahead: wait for the prompt.
    await console_.sees(/\^C.*\/ # /s)
    console_.type('echo after $?\n')
    await console_.sees(/after 130\r\n/)
    console_.type('exit 4\n')
    await until(() => w.status(id) === 'stopped')
    w.cli('delete', id)
  })

  test('exec -t through --console-socket', async () => {
    const id = newId()
    w.cli('run', '-d', '-b', sh('sleep 1000'), id)
    const console_ = new ConsoleReceiver(join(w.base, 'e.sock'))
    const args = ['exec', '-d', '-t', '--pid-file', join(w.base, 'tp'), '--console-socket', console_.path, id]
    const started = finished(w.spawn(...args, 'sh'))
    await console_.receive()
    expect(await started).toMatchObject({ code: 0 })
    console_.type('test -t 0 && test -t 2 && echo is a t"t"y\n')
    await console_.sees(/is a tty\r\n/)
    console_.resize(33, 77)
    console_.type('sleep 0.2; stty size\n')
    await console_.sees(/33 77\r\n/)
    console_.type('exit\n')
    await until(() => console_.closed)
    w.cli('delete', '-f', id)
  })

  test('pause stops everything, resume goes on', async () => {
    const id = newId()
    const dir = sh('i=0; while :; do i=$((i+1)); echo $i > /count; sleep 0.02; done', undefined, true)
    w.cli('run', '-d', '-b', dir, id)
    const count = () => Number(readFileSync(join(dir, 'rootfs/count'), 'utf8') || -1)
    await until(() => existsSync(join(dir, 'rootfs/count')) && count() > 0)
    expect(w.cli('pause', id).code).toBe(0)
    expect(w.status(id)).toBe('paused')
    await new Promise((r) => setTimeout(r, 100))
    const at = readFileSync(join(dir, 'rootfs/count'), 'utf8')
    await new Promise((r) => setTimeout(r, 300))
    expect(readFileSync(join(dir, 'rootfs/count'), 'utf8')).toBe(at)
    expect(w.cli('resume', id).code).toBe(0)
    await until(() => count() > Number(at) + 2)
    expect(w.cli('delete', '--force', id).code).toBe(0)
  })

  test('all kinds of hooks, in order', () => {
    const log = join(w.base, 'hooks')
    const host = (name: string) => ({ path: '/bin/sh', args: ['sh', '-c', `cat > /dev/null; echo ${name} >> ${log}`] })
    const dir = sh(
      'cat /tmp/started',
      (c) => {
        c.hooks = {
          prestart: [host('prestart')],
          createRuntime: [host('createRuntime')],
          createContainer: [{ ...host('createContainer') }],
          startContainer: [{ path: '/bin/sh', args: ['sh', '-c', 'cat > /tmp/started'], env: ['PATH=/bin'] }],
          poststart: [host('poststart')],
          poststop: [host('poststop')],
        }
      },
      true,
    )
    const id = newId()
    const r = w.cli('run', '-b', dir, id)
    expect(r).toMatchObject({ code: 0, err: '' })
    expect(JSON.parse(r.out)).toMatchObject({ id, status: 'created' })
    const expected = ['prestart', 'createRuntime', 'createContainer', 'poststart', 'poststop']
    expect(readFileSync(log, 'utf8').trim().split('\n')).toEqual(expected)
  })

  test('a program that is not there fails create', () => {
    const id = newId()
    const r = w.cli('create', '-b', w.bundle(rootfs, ['no-such-program']), id)
    expect(r.code).not.toBe(0)
    expect(r.err).toMatch(/exec: \\?"no-such-program\\?": executable file not found in \$PATH/)
    expect(w.status(id)).toBe('none')
  })

  test('the pids limit counts the guest’s tasks', () => {
    const r = run('i=0; while [ $i -lt 30 ]; do sleep 5 & i=$((i+1)); done; echo unreached', (c) => {
      c.linux.resources = { pids: { limit: 8 } }
    })
    expect(r.err).toMatch(/can't fork|Resource temporarily unavailable/)
  })

  test.skipIf(inVm)('--preserve-fds passes descriptors on', () => {
    const dir = sh('echo to three >&3; cat <&4')
    const [out, four] = [join(w.base, 'three'), join(w.base, 'four')]
    writeFileSync(four, 'content\n')
    const line = `exec "$@" 3> ${out} 4< ${four}`
    const argv = [BIN, ...w.argv('run', '--preserve-fds', '2', '-b', dir, newId())]
    const r = spawnSync('sh', ['-c', line, 'sh', ...argv], { encoding: 'utf8' })
    expect(r).toMatchObject({ status: 0, stdout: 'content\n', stderr: '' })
    expect(readFileSync(out, 'utf8')).toBe('to three\n')
  })

  test('a process beyond the memory limit is killed, and the container lives on', () => {
    const r = run('tail /dev/zero; echo $?', (c) => {
      c.linux.resources = { memory: { limit: 64 << 20 } }
    })
    expect(r).toMatchObject({ code: 0, out: '137\n' })
  })

  test.runIf(ownRuntime)('exec in a paused container is refused', () => {
    const id = newId()
    w.cli('run', '-d', '-b', sh('sleep 1000'), id)
    w.cli('pause', id)
    expect(w.cli('exec', id, 'true')).toMatchObject({ code: 128, err: expect.stringContaining('paused') })
    w.cli('resume', id)
    expect(w.cli('exec', id, 'true').code).toBe(0)
    w.cli('delete', '-f', id)
  })

  test.runIf(ownRuntime)('a sentry that hangs is killed all the same', { timeout: 30_000 }, () => {
    const id = newId()
    w.cli('run', '-d', '-b', sh('sleep 1000'), id)
    const { pid } = JSON.parse(w.cli('state', id).out) as { pid: number }
    process.kill(pid, 'SIGSTOP')
    expect(w.status(id)).toBe('running')
    expect(w.cli('kill', id, 'KILL').code).toBe(0)
    expect(w.status(id)).toBe('stopped')
    expect(w.cli('delete', id)).toEqual({ code: 0, out: '', err: '' })
  })

  test.runIf(ownRuntime && !inVm)('--strace and --debug-log', () => {
    const logs = join(w.base, 'logs')
    const id = newId()
    expect(w.cli('--strace', '--debug-log', logs, 'run', '-b', sh('echo hi'), id)).toMatchObject({
      code: 0,
      out: 'hi\n',
    })
    expect(readFileSync(join(logs, `${id}.strace.log`), 'utf8')).toMatch(/write\(1, "hi\\n", 3\) += 3/)
  })

  test.runIf(ownRuntime)('an idle container uses no CPU', async () => {
    const id = newId()
    w.cli('run', '-d', '-b', sh('sleep 1000'), id)
    const { pid } = JSON.parse(w.cli('state', id).out) as { pid: number }
    const cpuMs = () => Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[0]) / 1e6
    await sleep(1000)
    const before = cpuMs()
    await sleep(2000)
    expect(cpuMs() - before).toBeLessThan(5)
    w.cli('delete', '--force', id)
  })

  test.runIf(ownRuntime && !inVm)(
    'the sentry keeps nothing of processes that /proc has shown',
    { timeout: 60_000 },
    async () => {
      const id = newId()
      w.cli('run', '-d', '-b', sh('sleep 1000'), id)
      const { pid } = JSON.parse(w.cli('state', id).out) as { pid: number }
      const residentKb = () => Number(/^VmRSS:\s*(\d+)/m.exec(readText(`/proc/${pid}/status`))?.[1])
      const show = (processes: number) => {
        const one = ': & [ -d /proc/$!/task/$! ] && read line < /proc/$!/stat; wait; i=$((i+1))'
        expect(w.cli('exec', id, 'sh', '-c', `i=0; while [ $i -lt ${processes} ]; do ${one}; done`)).toMatchObject({
          code: 0,
        })
      }
      // Memory comes back when the container has been quiet for some seconds.
      const quiet = () => sleep(5000)
      show(1500)
      await quiet()
      const before = residentKb()
      show(4000)
      await quiet()
      expect(residentKb() - before).toBeLessThan(10_000)
      w.cli('delete', '--force', id)
    },
  )

  test('ten at once', { timeout: 120_000 }, async () => {
    const children = Array.from({ length: 10 }, (_, i) =>
      finished(w.spawn('run', '-b', sh(`sleep 1; echo number ${i}; exit ${i}`), newId()), 100_000),
    )
    const results = await Promise.all(children)
    expect(results).toEqual(results.map((_, i) => ({ code: i, out: `number ${i}\n`, err: '' })))
  })

  test.runIf(ownRuntime)('delete --force leaves no process, cgroup or folder', async () => {
    const id = newId()
    const dir = sh('sleep 1000 & sleep 1000', (c) => {
      c.linux.cgroupsPath = `/tssandbox-it/${id}`
    })
    w.cli('run', '-d', '-b', dir, id)
    const pid = (JSON.parse(w.cli('state', id).out) as { pid: number }).pid
    const cgroup = /^\d+:pids:(.*)$/m.exec(readFileSync(`/proc/${pid}/cgroup`, 'utf8'))?.[1]
    if (cgroup !== undefined) expect(cgroup).toBe(`/tssandbox-it/${id}`)
    expect(w.cli('delete', '--force', id)).toEqual({ code: 0, out: '', err: '' })
    // A zombie is its parent's business (here the machine's init).
    await until(() => !/^State:\t[^Z]/m.test(readText(`/proc/${pid}/status`)))
    expect(existsSync(join(w.root, id))).toBe(false)
    for (const h of ['pids', 'memory', 'unified', ''])
      expect(existsSync(`/sys/fs/cgroup/${h}/tssandbox-it/${id}`)).toBe(false)
  })
})
