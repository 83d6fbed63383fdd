/** Pods: containers with the CRI annotations of one sandbox share its virtual machine, and nothing else that is theirs. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { alive, children } from '../support/processes.ts'
import { setUpVms, vmRoot } from '../support/roots.ts'
import { type Config, finished, until, Workspace } from '../support/tssandbox.ts'

const { rootfs, why } = vmRoot()
const NOTICED_MS = 5000
const annotations = (sandbox: string, id = '') => ({
  'io.kubernetes.cri.container-type': sandbox ? 'container' : 'sandbox',
  'io.kubernetes.cri.sandbox-id': sandbox || id,
})
const FOREVER = 'while :; do sleep 0.2; done'

describe.skipIf(why)(`a pod in one virtual machine ${why}`, { timeout: 120_000 }, () => {
  const w = new Workspace('--platform=microvm')
  let ids = 0
  const started: string[] = []

  /** Created and started. */
  function container(sandbox: string, script: string, change: (c: Config) => void = () => {}) {
    const id = `pod-${process.pid}-${ids++}`
    const bundle = w.bundle(
      rootfs,
      ['sh', '-c', script],
      (c) => {
        c.annotations = annotations(sandbox, id)
        if (sandbox)
          for (const n of c.linux.namespaces) if (n.type === 'ipc' || n.type === 'uts') n.path = `/proc/1/ns/${n.type}`
        change(c)
      },
      true,
    )
    const made = w.cli('create', '--bundle', bundle, id)
    if (made.code !== 0) return { id, pid: 0, made, bundle }
    expect(w.cli('start', id)).toEqual({ code: 0, out: '', err: '' })
    started.push(id)
    return { id, pid: JSON.parse(w.cli('state', id).out).pid as number, made, bundle }
  }
  const pod = () => container('', FOREVER, (c) => (c.hostname = 'the-pod'))
  const exec = (id: string, script: string) => w.cli('exec', id, 'sh', '-c', script)

  beforeAll(setUpVms, 300_000)
  afterAll(() => w.clean())

  test('shares network, host name and ipc; not files, processes or its end', async () => {
    const sandbox = pod()
    const volume = join(w.base, 'volume')
    mkdirSync(volume)
    writeFileSync(join(volume, 'a'), 'from the host\n')
    const server = container(sandbox.id, 'echo mine > /own; echo hello | nc -l -p 7070 > /dev/null; exit 5', (c) =>
      c.mounts.push({ destination: '/v', type: 'bind', source: volume, options: ['rbind'] }),
    )
    const other = container(sandbox.id, FOREVER)
    expect(children(sandbox.pid, 'tssandbox-qemu').length).toBe(1)
    expect(children(server.pid, 'tssandbox-qemu').length).toBe(0)
    expect(exec(other.id, 'hostname').out).toBe('the-pod\n')
    expect(exec(server.id, 'hostname; cat /own /v/a; echo back > /v/b')).toMatchObject({
      code: 0,
      out: 'the-pod\nmine\nfrom the host\n',
    })
    expect(exec(other.id, 'cat /own /v/a').code).toBe(1)
    expect(exec(other.id, 'ps | grep "[n]c -l"').code).toBe(1)
    expect(exec(server.id, 'ps | grep "[n]c -l"').code).toBe(0)
    const ns = 'readlink /proc/self/ns/ipc /proc/self/ns/uts /proc/self/ns/net'
    expect(exec(other.id, ns).out).toBe(exec(sandbox.id, ns).out)
    expect(exec(other.id, 'readlink /proc/self/ns/mnt').out).not.toBe(exec(server.id, 'readlink /proc/self/ns/mnt').out)
    expect(w.cli('ps', other.id).out).not.toContain('nc -l')
    // Its localhost is the others', too; the server ends with its own status and nobody else does.
    expect(exec(other.id, 'nc 127.0.0.1 7070 < /dev/null').out).toBe('hello\n')
    await until(() => w.status(server.id) === 'stopped', NOTICED_MS)
    expect(w.cli('delete', server.id)).toEqual({ code: 0, out: '', err: '' })
    expect(alive(server.pid)).toBe(false)
    expect(w.status(other.id)).toBe('running')
    expect(exec(other.id, 'echo lives').out).toBe('lives\n')
    expect(w.cli('kill', other.id, 'KILL').code).toBe(0)
    await until(() => w.status(other.id) === 'stopped', NOTICED_MS)
    expect(w.cli('delete', other.id).code).toBe(0)
    const status = w.bundle(rootfs, ['sh', '-c', 'echo out; exit 5'], (c) => {
      c.annotations = annotations(sandbox.id)
    })
    expect(w.run(['run', '--bundle', status, `${sandbox.id}-status`])).toEqual({ code: 5, out: 'out\n', err: '' })
    // The numbers of ports and the cgroups of former members are used again.
    for (let i = 0; i < 3; i++) {
      const next = container(sandbox.id, FOREVER)
      expect(exec(next.id, 'cat /proc/self/cgroup; pwd')).toMatchObject({ code: 0, out: '0::/\n/\n' })
      expect(w.cli('delete', '--force', next.id).code).toBe(0)
    }
    expect(w.cli('delete', '--force', sandbox.id).code).toBe(0)
    expect(w.cli('list', '-q').out).toBe('')
  })

  test('a member whose monitor is killed is killed inside; the sandbox’s end is everybody’s', async () => {
    const sandbox = pod()
    const a = container(sandbox.id, 'nc -l -p 7071; nc -l -p 7071 & sleep 100')
    const b = container(sandbox.id, FOREVER)
    const reach = 'nc 127.0.0.1 7071 < /dev/null'
    expect(exec(b.id, reach).code).toBe(0)
    await until(() => exec(a.id, 'netstat -lnt').out.includes('7071'), NOTICED_MS)
    process.kill(a.pid, 'SIGKILL')
    await until(() => w.status(a.id) === 'stopped', NOTICED_MS)
    expect(exec(b.id, reach)).toMatchObject({ code: 1, err: expect.stringContaining('refused') })
    expect(w.cli('delete', a.id).code).toBe(0)
    expect(w.cli('delete', '--force', sandbox.id).code).toBe(0)
    await until(() => !alive(b.pid), NOTICED_MS)
    expect(w.status(b.id)).toBe('stopped')
    expect(w.cli('delete', b.id).code).toBe(0)
    const late = container(sandbox.id, 'true')
    expect(late.made.code).not.toBe(0)
    expect(late.made.err).toContain(`its sandbox ${sandbox.id} is not running`)
    expect(w.cli('list', '-q').out).toBe('')
  })

  test('kill -9 of QEMU ends all of them with the reason; delete --force leaves nothing', async () => {
    const sandbox = pod()
    const member = container(sandbox.id, FOREVER)
    const waiting = finished(w.spawn('exec', member.id, 'sleep', '100'))
    const foreground = `pod-${process.pid}-fg`
    const bundle = w.bundle(rootfs, ['sleep', '100'], (c) => {
      c.annotations = annotations(sandbox.id)
    })
    const running = finished(w.spawn('run', '--bundle', bundle, foreground))
    await until(() => w.status(foreground) === 'running')
    const [qemu] = children(sandbox.pid, 'tssandbox-qemu')
    process.kill(qemu!, 'SIGKILL')
    await until(() => !alive(sandbox.pid) && !alive(member.pid), NOTICED_MS)
    expect((await waiting).code).not.toBe(0)
    expect(await running).toMatchObject({
      code: 137,
      err: `tssandbox: the virtual machine of container ${foreground}: its sandbox ${sandbox.id} has ended\n`,
    })
    for (const id of [sandbox.id, member.id]) {
      expect(w.status(id)).toBe('stopped')
      expect(w.cli('delete', '--force', id).code).toBe(0)
    }
    expect(w.cli('list', '-q').out).toBe('')
    expect(spawnSync('pgrep', ['-f', w.base], { encoding: 'utf8' }).stdout).toBe('')
  })
})
