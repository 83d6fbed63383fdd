/**
 * Containers in a VM (--platform=microvm), under whatever acceleration this host has: a representative part of what is
 * tested at length on the sentry's platforms, and what is the VM's own: templates, failures of its parts, the network.
 */
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  closeSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { alive, children } from '../support/processes.ts'
import { setUpVms, vmRoot } from '../support/roots.ts'
import { run, TSSANDBOX, which } from '../support/run.ts'
import { type Config, finished, until, Workspace } from '../support/tssandbox.ts'

const { rootfs, why } = vmRoot()
const base = mkdtempSync(join(tmpdir(), 'tssandbox-vm-'))
const STORE = '/var/lib/tssandbox/microvm'
/** An end that is not by the container's own doing has to be noticed within this. */
const NOTICED_MS = 5000

describe.skipIf(why)(`containers in a virtual machine ${why}`, { timeout: 120_000 }, () => {
  const w = new Workspace('--platform=microvm')
  const sh = (script: string, change?: (c: Config) => void, copy = false) =>
    w.bundle(rootfs, ['sh', '-c', script], change, copy)
  let ids = 0
  const newId = () => `vm-${process.pid}-${ids++}`
  const inBundle = (script: string, change?: (c: Config) => void, input?: string) =>
    w.run(['run', '--bundle', sh(script, change), newId()], input)
  const vmDo = (...argv: string[]) => [TSSANDBOX, '--platform=microvm', 'do', '--', ...argv]
  const created = (script: string, change?: (c: Config) => void) => {
    const id = newId()
    const r = w.cli('create', '--bundle', sh(script, change), id)
    expect(r).toEqual({ code: 0, out: '', err: '' })
    const { pid } = JSON.parse(w.cli('state', id).out) as { pid: number }
    return { id, pid }
  }

  beforeAll(setUpVms, 300_000)
  afterAll(() => {
    w.clean()
    rmSync(base, { recursive: true, force: true })
  })

  test('do: the distribution’s kernel, exit codes, streams, what is not there', async () => {
    const r = await run(vmDo('sh', '-c', 'uname -r; cat; echo problem >&2; exit 3'), { input: 'in\n' })
    expect(r).toMatchObject({ code: 3, stderr: 'problem\n' })
    expect(r.stdout).toMatch(/^\d+\.\d+.*-amd64\nin\n$/)
    expect(await run(vmDo('no-such-program'))).toMatchObject({ code: 127 })
  })

  test('do: host files read-only under an overlay that is gone afterwards', async () => {
    const file = join(base, 'file')
    writeFileSync(file, 'before')
    const r = await run(
      vmDo('sh', '-c', `cat ${file}; echo after > ${file}; cat ${file}; rm /usr/bin/env; ls /usr/bin/env`),
    )
    expect(r.stdout).toMatch(/^beforeafter\n/)
    expect(readFileSync(file, 'utf8')).toBe('before')
    expect(r.stdout).not.toContain('/usr/bin/env')
    expect(existsSync('/usr/bin/env')).toBe(true)
  })

  test('a megabyte through pipes in both directions', async () => {
    const input = Buffer.alloc(1 << 20, 'abcdefg\n').toString()
    const r = await run(vmDo('cat'), { input })
    expect(r.code).toBe(0)
    expect(r.stdout === input).toBe(true)
  })

  test('a reader that goes away ends its writer', async () => {
    const line = `${vmDo('yes').join(' ')} | head -n 1`
    expect(await run(['sh', '-c', line], { seconds: 40 })).toMatchObject({ code: 0, stdout: 'y\n' })
  })

  test.skipIf(!which('python3'))('a terminal, its size, and ^C', async () => {
    const script = join(base, 'typed')
    writeFileSync(
      script,
      'expect ready\nsend stty size\\n\nexpect 24 80\nsize 50 132\npause 0.5\nsend stty size\\n\nexpect 50 132\n' +
        'send sleep 100\\n\npause 1\nsend \\x03\npause 0.5\nsend exit 7\\n\n',
    )
    const shell = ['sh', '-c', 'echo ready; exec sh -i']
    const r = await run(['python3', join(process.cwd(), 'test/support/pty-driver.py'), script, ...vmDo(...shell)])
    expect(r.stdout).toContain('50 132')
    expect(r.stdout).toMatch(/7\s*$/)
  })

  test('life cycle: create, start, exec, ps, pause, kill, delete', () => {
    const { id, pid } = created('trap "exit 9" TERM; while :; do sleep 0.1; done')
    expect(w.status(id)).toBe('created')
    expect(w.cli('start', id)).toEqual({ code: 0, out: '', err: '' })
    expect(w.status(id)).toBe('running')
    // The monitor has given up what it booted with.
    const monitor = readFileSync(`/proc/${pid}/status`, 'utf8')
    expect(monitor).toMatch(/^CapPrm:\t0+$/m)
    expect(monitor).toMatch(/^CapBnd:\t0+$/m)
    expect(monitor).toMatch(/^Seccomp:\t2$/m)
    expect(Number(/^Uid:\t(\d+)/m.exec(monitor)![1])).toBeGreaterThan(0x70000000)
    expect(readdirSync(`/proc/${pid}/root`)).toEqual(['proc'])
    expect(w.cli('exec', id, 'sh', '-c', 'echo $PPID; id -u; exit 5')).toEqual({ code: 5, out: '0\n0\n', err: '' })
    expect(w.run(['exec', id, 'sh', '-c', 'cat; exit 6'], 'input')).toEqual({ code: 6, out: 'input', err: '' })
    expect(w.cli('exec', id, 'nothing').code).not.toBe(0)
    expect(w.cli('ps', id).out).toMatch(/ 1 .*trap/)
    expect(JSON.parse(w.cli('ps', '--format', 'json', id).out)).toEqual([pid])
    expect(w.cli('pause', id).code).toBe(0)
    expect(w.status(id)).toBe('paused')
    expect(w.cli('resume', id).code).toBe(0)
    const { data } = JSON.parse(w.cli('events', '--stats', id).out) as { data: { pids: { current: number } } }
    expect(data.pids.current).toBeGreaterThan(0)
    expect(w.cli('delete', id).code).not.toBe(0)
    expect(w.cli('kill', id, 'TERM').code).toBe(0)
    expect(JSON.parse(w.cli('wait', id).out || '{"exitStatus":9}')).toMatchObject({ exitStatus: 9 })
    expect(w.cli('delete', '--force', id).code).toBe(0)
    expect(w.cli('state', id).code).not.toBe(0)
    expect(alive(pid)).toBe(false)
  })

  test('process: user, groups, umask, limits, capabilities, environment', () => {
    const r = inBundle(
      'id -u; id -G; umask; ulimit -n; pwd; echo $A; grep -E "^(CapEff|NoNewPrivs)" /proc/self/status',
      (c) => {
        Object.assign(c.process, {
          env: ['PATH=/bin', 'A=b c'],
          cwd: '/etc',
          user: { uid: 1000, gid: 1000, additionalGids: [5], umask: 0o27 },
          rlimits: [{ type: 'RLIMIT_NOFILE', soft: 333, hard: 444 }],
          capabilities: {},
          noNewPrivileges: true,
        })
      },
    )
    expect(r).toEqual({
      code: 0,
      out: '1000\n1000 5\n0027\n333\n/etc\nb c\nNoNewPrivs:\t1\nCapEff:\t0000000000000000\n'.replace(
        /NoNew.*\n(Cap.*\n)/,
        (all) => all.split('\n').filter(Boolean).reverse().join('\n').concat('\n'),
      ),
      err: '',
    })
  })

  test('mounts: folders and single files, read-only and not; masked and read-only paths; a read-only root', () => {
    const folder = join(base, 'volume')
    mkdirSync(folder)
    writeFileSync(join(folder, 'a'), 'A')
    const single = join(base, 'single')
    writeFileSync(single, 'one')
    writeFileSync(join(base, 'sibling'), 'secret')
    // On a copy: mount points are made in the root.
    const bundle = sh(
      'cat /v/a; echo B > /v/b; mkdir /v/d; cat /etc/one; echo two > /etc/one; echo x > /r/c; echo x > /here; ' +
        'cat /etc/hidden; touch /proc/sys/kernel/hostname; ls /proc/acpi',
      (c) => {
        c.root.readonly = true
        c.mounts.push(
          { destination: '/v', type: 'bind', source: folder, options: ['rbind', 'rw'] },
          { destination: '/r', type: 'bind', source: folder, options: ['rbind', 'ro'] },
          { destination: '/etc/one', type: 'bind', source: single, options: ['bind'] },
        )
        c.linux.maskedPaths = ['/proc/acpi']
        c.linux.readonlyPaths = ['/proc/sys']
      },
      true,
    )
    const r = w.run(['run', '--bundle', bundle, newId()])
    expect(r.out).toBe('Aone')
    expect(r.err.match(/Read-only file system/g)?.length).toBe(3)
    expect(readFileSync(join(folder, 'b'), 'utf8')).toBe('B\n')
    expect(existsSync(join(folder, 'd'))).toBe(true)
    expect(existsSync(join(folder, 'c'))).toBe(false)
    expect(readFileSync(single, 'utf8')).toBe('two\n')
  })

  describe.each(['fuse', '9p', 'virtio-9p', 'virtiofsd'])('files by %s', (fs) => {
    const server = fs === 'virtiofsd' ? ['/usr/libexec/virtiofsd', '/usr/lib/qemu/virtiofsd'].some(existsSync) : true
    const v = new Workspace('--platform=microvm', `--microvm-fs=${fs}`)
    afterAll(() => v.clean())

    test.skipIf(!server)(
      'a root, folders and single files, read-only and not, by the users that they belong to',
      () => {
        const folder = join(v.base, 'volume')
        mkdirSync(folder)
        chmodSync(folder, 0o777)
        writeFileSync(join(v.base, 'one'), 'one')
        symlinkSync('/etc/hostname', join(folder, 'out'))
        const script =
          'cat /etc/one; echo x > /etc/one; echo a > /own; echo b > /v/b; chown 7:8 /v/b; chmod 640 /v/b; touch -d @5 /v/b; ' +
          'ln -s b /v/link; mv /v/link /v/moved; su -s /bin/sh nobody -c "touch /v/nobody; cat /v/b"; ls /v; cat /v/out; ' +
          'mknod /v/dev b 8 0; ls -l /proc/1/exe > /dev/null; dd if=/dev/zero of=/v/big bs=64k count=32 2>/dev/null'
        const dir = v.bundle(
          rootfs,
          ['sh', '-c', script],
          (c) => {
            c.hostname = 'inside'
            const caps = [
              'CAP_CHOWN',
              'CAP_FOWNER',
              'CAP_DAC_OVERRIDE',
              'CAP_SETUID',
              'CAP_SETGID',
              'CAP_MKNOD',
              'CAP_FSETID',
            ]
            c.process.capabilities = { bounding: caps, effective: caps, permitted: caps }
            c.mounts.push(
              { destination: '/v', type: 'bind', source: folder, options: ['rbind', 'rw'] },
              { destination: '/etc/one', type: 'bind', source: join(v.base, 'one'), options: ['bind', 'ro'] },
            )
          },
          true,
        )
        const r = v.run(['run', '--bundle', dir, `fs-${process.pid}`])
        expect(r.out).toMatch(/^oneb\nmoved\nnobody\nout\n/)
        expect(r.err).toMatch(/etc\/one: Read-only file system/)
        expect(r.err).toMatch(/v\/b'?: Permission denied/)
        // The link leads to the container's file, not to the host's.
        expect(r.err).toMatch(/out'?: No such file/)
        expect(readFileSync(join(dir, 'rootfs/own'), 'utf8')).toBe('a\n')
        const b = statSync(join(folder, 'b'))
        expect([b.uid, b.gid, b.mode & 0o777, b.mtimeMs]).toEqual([7, 8, 0o640, 5000])
        expect(statSync(join(folder, 'nobody')).uid).toBe(65534)
        expect(readlinkSync(join(folder, 'moved'))).toBe('b')
        expect(statSync(join(folder, 'big')).size).toBe(2 << 20)
        expect(existsSync(join(folder, 'dev'))).toBe(false)
      },
    )

    test.skipIf(fs !== 'virtiofsd' || !server)('without the daemon it says what to install', () => {
      const hide = 'for d in /usr/libexec /usr/lib/qemu; do [ -d $d ] && mount -t tmpfs none $d; done; exec "$@"'
      const argv = [TSSANDBOX, '--platform=microvm', '--microvm-fs=virtiofsd', 'do', '--', 'true']
      const r = spawnSync('unshare', ['-m', 'sh', '-c', hide, 'sh', ...argv], { encoding: 'utf8' })
      expect(r.status).toBe(128)
      expect(r.stderr).toMatch(/virtiofsd is not installed \(Debian/)
    })
  })

  test.skipIf(!existsSync('/usr/bin/python3'))(
    'a volume: host and guest see at once what the other has written',
    async () => {
      const folder = join(base, 'seen')
      mkdirSync(folder)
      for (const name of ['a', 'b']) writeFileSync(join(folder, name), '--------')
      // Both keep their files open; a round takes less than a tick of the host's clock.
      const echo = `import os
a=os.open('/seen/a',os.O_RDONLY); b=os.open('/seen/b',os.O_RDWR); last=b''
while last!=b'done----':
    v=os.pread(a,8,0)
    if v!=last: os.pwrite(b,v,0); last=v`
      const guest = run([
        TSSANDBOX,
        '--platform=microvm',
        'do',
        '-v',
        `${folder}:/seen`,
        '--',
        '/usr/bin/python3',
        '-c',
        echo,
      ])
      const [a, b] = [openSync(join(folder, 'a'), 'r+'), openSync(join(folder, 'b'), 'r')]
      const seen = Buffer.alloc(8)
      for (let i = 0; i <= 200; i++) {
        const value = i === 200 ? 'done----' : String(i).padStart(8, '0')
        writeSync(a, value, 0)
        // Quicker than `until`, and for a Python that takes its time to start.
        for (const end = Date.now() + 60_000; Date.now() < end && seen.toString() !== value; ) {
          await new Promise((resolve) => setImmediate(resolve))
          readSync(b, seen, 0, 8, 0)
        }
        expect(seen.toString()).toBe(value)
      }
      closeSync(a)
      closeSync(b)
      expect(await guest).toMatchObject({ code: 0, stderr: '' })
    },
  )

  test('a root: links, renames, absent names, attributes, what is removed and still open', () => {
    const script =
      'cd /w; cat none 2>&1; echo x > none; cat none; ln none hard; echo y >> hard; cat none; stat -c "%h %s" none; ' +
      'mkdir d; mv none d/n; cat d/n; mv d e; cat e/n; exec 3< e/n; rm e/n; cat <&3; rmdir e; ls; ' +
      'truncate -s 70000 big; echo end >> big; tail -c 4 big; stat -c %s big; mv big hard; stat -c %s hard; ' +
      'i=0; while [ $i -lt 300 ]; do echo $i > f$i; i=$((i+1)); done; ls | wc -l; rm f*; ls; ls /w/none 2>&1'
    const dir = sh(script, undefined, true)
    mkdirSync(join(dir, 'rootfs/w'))
    const { out } = w.run(['run', '--bundle', dir, newId()])
    const none = "cat: can't open 'none': No such file or directory"
    const lines = [
      none,
      'x',
      'x',
      'y',
      '2 4',
      'x',
      'y',
      'x',
      'y',
      'x',
      'y',
      'hard',
      'end',
      '70004',
      '70004',
      '301',
      'hard',
    ]
    expect(out.split('\n').slice(0, lines.length)).toEqual(lines)
    expect(out).toMatch(/none: No such file or directory\n$/)
    expect(statSync(join(dir, 'rootfs/w/hard')).size).toBe(70004)
  })

  test('what the container writes is there when it has ended', () => {
    const dir = sh('dd if=/dev/zero bs=64k count=64 2>/dev/null | tr "\\0" x > /big; echo done', undefined, true)
    expect(w.run(['run', '--bundle', dir, newId()])).toEqual({ code: 0, out: 'done\n', err: '' })
    expect(readFileSync(join(dir, 'rootfs/big')).equals(Buffer.alloc(64 * 65536, 'x'))).toBe(true)
  })

  test('limits: tasks, and memory kills the one that takes too much', () => {
    const limited = (c: Config) => {
      c.linux.resources = { memory: { limit: 64 << 20 }, pids: { limit: 20 } }
    }
    const r = inBundle(
      'sh -c "tail -c 200000000 /dev/zero" > /dev/null; echo $?; for i in $(seq 40); do sleep 2 & done',
      limited,
    )
    expect(r.out).toBe('137\n')
    expect(r.err).toMatch(/can't fork|Resource temporarily unavailable/)
  })

  test('seccomp: the profile is the guest kernel’s to enforce, for init and for exec, with and without no_new_privs', () => {
    const profile = {
      defaultAction: 'SCMP_ACT_ALLOW',
      architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86'],
      syscalls: [
        { names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 16 },
        { names: ['sync'], action: 'SCMP_ACT_KILL_PROCESS', args: [] },
      ],
    }
    const script = 'grep -E "^(NoNewPrivs|Seccomp):" /proc/self/status; id -u; mkdir /tmp/x; sync; echo $?'
    const confined = (noNewPrivileges: boolean) => (c: Config) => {
      c.linux['seccomp'] = profile
      Object.assign(c.process, { noNewPrivileges, user: { uid: 1000, gid: 1000 }, capabilities: {} })
    }
    const said = (nnp: number) => `NoNewPrivs:\t${nnp}\nSeccomp:\t2\n1000\n159\n`
    const first = inBundle(script, confined(true))
    expect(first.out).toBe(said(1))
    expect(first.err).toMatch(/mkdir: can't create directory '\/tmp\/x': Device or resource busy\nBad system call\n/)
    const { id } = created('sleep 100', confined(false))
    w.cli('start', id)
    expect(w.cli('exec', id, 'sh', '-c', script)).toMatchObject({ code: 0, out: said(0) })
    w.cli('delete', '--force', id)
    const bundle = sh('true', (c) => {
      c.linux['seccomp'] = { defaultAction: 'SCMP_ACT_NOTIFY' }
    })
    const refused = w.run(['run', '--bundle', bundle, newId()])
    expect(w.run(['run', '--preserve-fds', '1', '--bundle', sh('true'), newId()]).err).toContain('--preserve-fds')
    expect(refused.code).toBe(128)
    expect(refused.err).toContain('linux.seccomp.defaultAction: SCMP_ACT_NOTIFY is not supported')
  })

  test('exec: a detached one is seen by its stand-in; its end is its own', async () => {
    const { id } = created('sleep 100')
    w.cli('start', id)
    const pidFile = join(base, 'exec.pid')
    expect(
      w.cli('exec', '--detach', '--pid-file', pidFile, id, 'sh', '-c', 'echo $$ > /dev/null; sleep 0.5').code,
    ).toBe(0)
    const pid = Number(readFileSync(pidFile, 'utf8'))
    expect(alive(pid)).toBe(true)
    await until(() => !alive(pid))
    expect(w.status(id)).toBe('running')
    w.cli('delete', '--force', id)
  })

  test('signals: to init by its handler, to all, and of a foreground run', async () => {
    const child = w.spawn(
      'run',
      '--bundle',
      sh('trap "echo got; exit 4" USR1; echo up; while :; do sleep 0.1; done'),
      newId(),
    )
    let out = ''
    child.stdout!.on('data', (d: Buffer) => {
      out += d
    })
    const end = finished(child)
    await until(() => out.includes('up'), 60_000)
    child.kill('SIGUSR1')
    expect(await end).toMatchObject({ code: 4 })
    const { id } = created('sleep 100 & sleep 100')
    // Before it runs it dies of what would kill it, and of nothing else.
    for (const signal of ['CONT', 'WINCH', 'CHLD']) expect(w.cli('kill', id, signal).code).toBe(0)
    expect(w.cli('start', id).code).toBe(0)
    expect(w.cli('kill', '--all', id, 'KILL').code).toBe(0)
    await until(() => w.status(id) === 'stopped')
    expect(w.cli('delete', id).code).toBe(0)
  })

  describe('failures', () => {
    const foreground = async (script: string) => {
      const id = newId()
      const child = w.spawn('run', '--bundle', sh(script), id)
      let out = ''
      child.stdout!.on('data', (d: Buffer) => {
        out += d
      })
      const end = finished(child)
      await until(() => out.includes('up'), 60_000)
      const { pid } = JSON.parse(w.cli('state', id).out) as { pid: number }
      const [qemu] = children(pid, 'tssandbox-qemu')
      const [gofer] = children(child.pid!, 'tssandbox-gofer')
      return { id, child, pid, qemu: qemu!, gofer: gofer!, end, since: Date.now() }
    }

    test('QEMU is killed', async () => {
      const c = await foreground('echo up; sleep 100')
      process.kill(c.qemu, 'SIGKILL')
      const r = await c.end
      expect(r.code).toBe(137)
      expect(r.err).toContain('virtual machine')
      expect(Date.now() - c.since).toBeLessThan(NOTICED_MS + 5000)
      expect(alive(c.gofer)).toBe(false)
    })

    test('the gofer is killed', async () => {
      const c = await foreground('echo up; sleep 100')
      process.kill(c.gofer, 'SIGKILL')
      const r = await c.end
      expect(r.code).toBe(128)
      expect(r.err).toContain('gofer')
      await until(() => !alive(c.qemu), NOTICED_MS)
    })

    test('the CLI is killed', async () => {
      const c = await foreground('echo up; sleep 100')
      c.child.kill('SIGKILL')
      await until(() => !alive(c.qemu) && !alive(c.pid) && !alive(c.gofer), NOTICED_MS)
      expect(w.cli('delete', '--force', c.id).code).toBe(0)
    })

    test('the guest’s kernel panics', async () => {
      const r = await run(vmDo('sh', '-c', 'echo c > /proc/sysrq-trigger; sleep 20'))
      expect(r.code).toBe(137)
      expect(r.stderr).toMatch(/virtual machine.*(panic|sysrq|BUG|Oops)/i)
    })

    test('a guest that is root and floods its agent’s port harms itself only', async () => {
      const r = await run(
        vmDo(
          'sh',
          '-c',
          'mknod /p c 244 1 2>/dev/null; for i in 1 2 3; do echo garbage > /p; done 2>/dev/null; echo alive',
        ),
      )
      expect([0, 137]).toContain(r.code)
    })

    test('a truncated template is made anew', async () => {
      const store = join(base, 'store')
      spawnSync('cp', ['-a', '--sparse=always', STORE, store])
      for (const state of globSync(join(store, 'templates/*/state'))) truncateSync(state, 10)
      const r = await run([TSSANDBOX, '--platform=microvm', `--microvm-dir=${store}`, 'do', '--', 'echo', 'fine'], {
        seconds: 110,
      })
      expect(r).toMatchObject({ code: 0, stdout: 'fine\n' })
    })

    test('before set-up it says what to run', async () => {
      const r = await run([TSSANDBOX, '--platform=microvm', `--microvm-dir=${join(base, 'none')}`, 'do', '--', 'true'])
      expect(r.code).toBe(128)
      expect(r.stderr).toContain('tssandbox microvm setup')
    })
  })

  test.skipIf(!which('ip') || !which('tc'))(
    'the interfaces of the container’s network namespace are the VM’s, in IPv4 and IPv6',
    () => {
      const names = [`tss-a-${process.pid}`, `tss-b-${process.pid}`]
      const ip = (...args: string[]) => expect(spawnSync('ip', args, { encoding: 'utf8' }).stderr).toBe('')
      const links = () =>
        spawnSync('sh', ['-c', 'ip -o addr show dev eth0; tc qdisc show dev eth0; tc filter show dev eth0 ingress'], {
          encoding: 'utf8',
        }).stdout
      const before = links()
      try {
        for (const name of names) ip('netns', 'add', name)
        for (const [n, dev] of ['eth0', 'net1'].entries()) {
          ip('link', 'add', `tssv${n}`, 'netns', names[0]!, 'type', 'veth', 'peer', 'name', dev, 'netns', names[1]!)
          ip('-n', names[0]!, 'link', 'set', `tssv${n}`, 'name', dev)
          for (const [i, name] of names.entries()) {
            ip('-n', name, 'addr', 'add', `10.213.${7 + n}.${i + 1}/24`, 'dev', dev)
            ip('-n', name, 'addr', 'add', `fd00:${7 + n}::${i + 1}/64`, 'dev', dev, 'nodad')
            ip('-n', name, 'link', 'set', dev, 'up')
          }
        }
        ip('-n', names[0]!, 'link', 'set', 'net1', 'mtu', '1400')
        ip('-n', names[0]!, 'route', 'add', 'default', 'via', '10.213.7.2')
        ip('-n', names[0]!, 'route', 'add', 'fd00:99::/48', 'via', 'fd00:8::2')
        ip('-n', names[0]!, 'route', 'add', '10.99.0.0/16', 'dev', 'net1', 'metric', '50')
        const pings = ['10.213.7.2', '10.213.8.2', 'fd00:7::2', 'fd00:8::2']
          .map((to) => `ping -c 2 -W 5 ${to}`)
          .join('; ')
        const r = inBundle(`ip -o addr; ip link; ip route; ip -6 route; ${pings}`, (c) => {
          c.linux.namespaces = c.linux.namespaces.filter((n) => n.type !== 'network')
          c.linux.namespaces.push({ type: 'network', path: `/run/netns/${names[0]}` })
          c.process.capabilities = { bounding: ['CAP_NET_RAW'], effective: ['CAP_NET_RAW'], permitted: ['CAP_NET_RAW'] }
        })
        for (const [n, dev] of ['eth0', 'net1'].entries()) {
          expect(r.out).toMatch(new RegExp(`${dev} .*inet 10\\.213\\.${7 + n}\\.1/24`))
          expect(r.out).toMatch(new RegExp(`${dev} .*inet6 fd00:${7 + n}::1/64`))
        }
        expect(r.out).toMatch(/net1: .* mtu 1400 /)
        expect(r.out).toContain('default via 10.213.7.2 dev eth0')
        expect(r.out).toMatch(/10\.99\.0\.0\/16 dev net1 .*metric 50/)
        expect(r.out).toContain('fd00:99::/48 via fd00:8::2 dev net1')
        expect(r.out.match(/[12] packets received/g)?.length).toBe(4)
        expect(r.out).not.toMatch(/eth[123]:/)
      } finally {
        for (const name of names) spawnSync('ip', ['netns', 'del', name])
      }
      expect(links()).toBe(before)
    },
  )
})
