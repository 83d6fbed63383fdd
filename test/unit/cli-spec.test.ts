/** config.json: what is taken, what is refused and with which words, and what becomes of it in the sentry's BootConfig. */
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import {
  checkUnused,
  createCgroups,
  limitCgroups,
  planCgroups,
  removeCgroups,
  systemdPath,
} from '../../runsc-cli/cgroup/cgroup.ts'
import { type Hierarchy, parseHierarchies } from '../../runsc-cli/cgroup/hierarchy.ts'
import { OWN_MEMORY, OWN_TASKS, writesV1, writesV2 } from '../../runsc-cli/cgroup/limits.ts'
import { textLine } from '../../runsc-cli/log.ts'
import type { GlobalOptions } from '../../runsc-cli/options.ts'
import { parseSignal } from '../../runsc-cli/signals.ts'
import { planBoot } from '../../runsc-cli/spec/boot.ts'
import { defaultConfig } from '../../runsc-cli/spec/default-config.ts'
import { loadBundle, parseResources } from '../../runsc-cli/spec/load.ts'

const base = mkdtempSync(join(tmpdir(), 'tssandbox-spec-'))
afterAll(() => rmSync(base, { recursive: true, force: true }))

const minimal = () => ({
  ociVersion: '1.0.2',
  process: { args: ['/bin/true'], cwd: '/', env: ['A=b'] },
  root: { path: 'rootfs' },
})
let count = 0
function load(config: unknown) {
  const dir = join(base, String(count++))
  mkdirSync(join(dir, 'rootfs'), { recursive: true })
  writeFileSync(join(dir, 'config.json'), typeof config === 'string' ? config : JSON.stringify(config))
  return loadBundle(dir)
}
const OPTIONS: GlobalOptions = {
  root: '/run/tssandbox',
  log: '',
  logFormat: 'text',
  debug: false,
  systemdCgroup: false,
  ignoreCgroups: false,
  rootless: false,
  platform: 'auto',
  microvm: { store: '/nowhere', accel: 'auto', template: true, fs: 'fuse' },
  network: 'host',
  debugLog: '',
  strace: false,
}
const boot = (config: unknown) => planBoot('id', load(config), OPTIONS)

describe('a bad bundle names file, field and reason', () => {
  test.each([
    ['{', /config\.json: not JSON/],
    [{ ...minimal(), ociVersion: '2.0.0' }, /config\.json: ociVersion: "2\.0\.0" is not a 1\.x\.y version/],
    [{ ...minimal(), root: undefined }, /config\.json: root: is required/],
    [{ ...minimal(), process: undefined }, /process: is required/],
    [{ ...minimal(), process: { args: [], cwd: '/' } }, /process\.args: at least one/],
    [{ ...minimal(), process: { args: ['a', 3], cwd: '/' } }, /process\.args\[1\]: expected a string/],
    [{ ...minimal(), process: { args: ['a'], cwd: 'x' } }, /process\.cwd: is not an absolute path/],
    [{ ...minimal(), process: { args: ['a'], cwd: '/', env: ['A'] } }, /process\.env\[0\]: "A" is not NAME=VALUE/],
    [{ ...minimal(), process: { args: ['a'], cwd: '/', user: { uid: -1 } } }, /process\.user\.uid: expected 0 to/],
    [{ ...minimal(), linux: { uidMappings: [{ containerID: 0, hostID: 1, size: 1 }] } }, /linux\.uidMappings/],
    [{ ...minimal(), linux: { namespaces: [{ type: 'user' }] } }, /linux\.namespaces\[0\]: user namespaces/],
    [{ ...minimal(), linux: { namespaces: [{ type: 'new' }] } }, /linux\.namespaces\[0\]\.type: expected pid or/],
    [
      { ...minimal(), linux: { devices: [{ path: '/dev/fuse', type: 'c' }] } },
      /linux\.devices\[0\]\.path: host device/,
    ],
    [{ ...minimal(), windows: {} }, /windows: only Linux/],
    [{ ...minimal(), hooks: { prestart: [{ args: [] }] } }, /hooks\.prestart\[0\]\.path: expected a string/],
  ])('%j', (config, message) => {
    expect(() => load(config)).toThrow(message)
  })

  test.each([
    [
      { mounts: [{ destination: '/x', type: 'ext4', source: '/dev/sda' }] },
      /mounts\[0\]\.type: "ext4" is not supported/,
    ],
    [{ mounts: [{ destination: '/x', type: 'bind', source: '/nope' }] }, /mounts\[0\]\.source: \/nope: no such file/],
    [{ mounts: [{ destination: '/x', type: 'bind', source: '/dev/full' }] }, /host devices are not supported/],
    [
      { process: { args: ['a'], cwd: '/', capabilities: { bounding: ['CAP_X'] } } },
      /bounding\[0\]: unknown capability/,
    ],
    [{ process: { args: ['a'], cwd: '/', rlimits: [{ type: 'X', soft: 1, hard: 1 }] } }, /rlimits\[0\]\.type: unknown/],
    [{ root: { path: 'nope' } }, /root\.path: .*nope is not a directory/],
  ])('%j', (part, message) => {
    expect(() => boot({ ...minimal(), ...part })).toThrow(message)
  })
})

test('what is harmless to leave out is warned about', () => {
  const { warnings } = load({
    ...minimal(),
    process: { ...minimal().process, apparmorProfile: 'p', oddField: 1 },
    linux: { namespaces: [{ type: 'pid' }, { type: 'ipc' }, { type: 'uts' }, { type: 'mount' }] },
  })
  expect(warnings.map((w) => w.replace(/^.*config\.json: /, ''))).toEqual([
    'process.oddField: unknown field, ignored',
    'process.apparmorProfile: not applied: the guest never reaches the host kernel',
  ])
})

describe('pods', () => {
  const namespaces = (...types: string[]) => types.map((type) => ({ type, path: `/proc/1/ns/${type}` }))
  const cri = (type: string, sandbox?: string, memory?: string) => ({
    'io.kubernetes.cri.container-type': type,
    ...(sandbox && { 'io.kubernetes.cri.sandbox-id': sandbox }),
    ...(memory && { 'io.kubernetes.cri.sandbox-memory': memory }),
  })
  const whole = (annotations: object, types: string[], platform: GlobalOptions['platform'] = 'microvm') =>
    planBoot('own', load({ ...minimal(), annotations, linux: { namespaces: namespaces(...types) } }), {
      ...OPTIONS,
      platform,
    })
  const plan = (...args: Parameters<typeof whole>) => whole(...args).boot.pod

  test('by the annotations of containerd’s CRI plugin, in virtual machines', () => {
    expect(plan({}, [])).toBeUndefined()
    expect(plan(cri('sandbox', 'own', '1048576'), ['network'])).toEqual({
      role: 'sandbox',
      sandbox: 'own',
      memory: 1048576,
    })
    expect(plan(cri('container', 'other', '-1'), ['network', 'ipc', 'uts'])).toEqual({
      role: 'member',
      sandbox: 'other',
      memory: 0,
    })
    expect(plan(cri('container', 'other'), ['network'], 'auto')).toBeUndefined()
    expect(() => plan(cri('container'), [])).toThrow(/config\.json: annotations\["io\.kubernetes\.cri\.sandbox-id"\]/)
    expect(() => plan(cri('pod'), [])).toThrow(/container-type"\]: expected/)
  })

  test('namespaces of others are joined by their members alone', () => {
    const refused = /config\.json: linux\.namespaces\[0\]\.path: joining a \w+ namespace/
    expect(() => plan({}, ['pid'])).toThrow(refused)
    expect(() => plan({}, ['ipc'])).toThrow(refused)
    expect(() => plan(cri('sandbox', 'own'), ['uts'])).toThrow(refused)
    expect(() => plan(cri('container', 'other'), ['pid'])).toThrow(refused)
    // Without a machine to share, each has its own, and the name of the pod.
    expect(whole(cri('container', 'other'), ['ipc'], 'systrap').namedBy).toBe('other')
    expect(() => plan({}, ['ipc'], 'systrap')).toThrow(refused)
  })
})

test('a seccomp profile goes to a guest’s kernel; the sentry says that it does without', () => {
  const seccomp = { defaultAction: 'SCMP_ACT_ERRNO', syscalls: [{ names: ['read'], action: 'SCMP_ACT_ALLOW' }] }
  const spec = load({ ...minimal(), linux: { seccomp } })
  expect(planBoot('id', spec, OPTIONS).boot.seccomp).toBeUndefined()
  expect(spec.warnings.at(-1)).toMatch(/linux\.seccomp: .* not applied; the guest never reaches the host kernel/)
  const vm = load({ ...minimal(), linux: { seccomp } })
  expect(planBoot('id', vm, { ...OPTIONS, platform: 'microvm' }).boot.seccomp?.syscalls[0]).toEqual({
    ...seccomp.syscalls[0],
    args: [],
  })
  expect(vm.warnings.filter((w) => w.includes('seccomp'))).toEqual([])
  const broken = { ...seccomp, syscalls: [{ names: ['read'], action: 'x', args: [{ index: 6, value: 0, op: 'x' }] }] }
  expect(() => load({ ...minimal(), linux: { seccomp: broken } })).toThrow(/seccomp\.syscalls\[0\]\.args\[0\]\.index/)
})

test('what spec writes is accepted without an unknown field', () => {
  const { warnings, process } = load(defaultConfig(['sh'], '/', ''))
  expect(warnings).toEqual([])
  expect(process.args).toEqual(['sh'])
})

test('mounts and process become the sentry’s', () => {
  const { boot: b, gofer } = boot({
    ...minimal(),
    process: {
      args: ['/bin/é'],
      cwd: '/',
      user: { uid: 1, gid: 2, additionalGids: [3], umask: 0o77 },
      capabilities: { bounding: ['CAP_KILL', 'CAP_CHOWN', 'CAP_KILL'] },
      rlimits: [{ type: 'RLIMIT_NOFILE', soft: 5, hard: 2 ** 64 }],
    },
    mounts: [
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755', 'size=64k'] },
      { destination: '/etc/passwd', type: 'bind', source: '/etc/passwd', options: ['rbind', 'ro', 'rprivate'] },
      { destination: '/t', type: 'tmpfs', options: ['noexec', 'size=1m'] },
    ],
  })
  expect(b.process).toMatchObject({ args: ['/bin/Ã©'], uid: 1, gid: 2, additionalGids: [3], umask: 0o77 })
  expect(b.process.capabilities.bounding).toEqual([0, 5])
  expect(b.process.rlimits).toEqual([{ resource: 7, soft: 5, hard: -1 }])
  expect(b.mounts.map((m) => [m.destination, m.type, m.goferMount, m.isFile, m.options])).toEqual([
    ['/dev', 'dev', -1, false, ['mode=755', 'size=64k']],
    ['/etc/passwd', 'gofer', 1, true, []],
    ['/t', 'tmpfs', -1, false, ['size=1m']],
  ])
  expect(b.mounts[1]!.flags.readonly).toBe(true)
  expect(gofer[1]).toMatchObject({ source: '/etc/passwd', readonly: true, isFile: true, shared: true })
})

test('a root without /dev gets one', () => {
  expect(boot(minimal()).boot.mounts.map((m) => m.destination)).toEqual(['/dev'])
})

describe('cgroups', () => {
  const V1 =
    '26 25 0:22 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n' +
    '27 26 0:23 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n' +
    '28 26 0:24 /box /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n' +
    '29 26 0:25 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n' +
    '30 26 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n'
  const V1_OWN = '3:memory:/a\n2:cpu,cpuacct:/box/b\n1:name=systemd:/\n0::/\n'
  test('v1 beside an empty v2', () => {
    const found = parseHierarchies(V1, V1_OWN)
    expect(found.map((h) => [h.mountPoint, h.version, h.ownPath])).toEqual([
      ['/sys/fs/cgroup/memory', 1, '/a'],
      ['/sys/fs/cgroup/cpu', 1, '/b'],
      ['/sys/fs/cgroup/systemd', 1, '/'],
    ])
    expect(planCgroups('c', '/docker/c', false, found).dirs.map((d) => d.path)[0]).toBe(
      '/sys/fs/cgroup/memory/docker/c',
    )
    expect(planCgroups('c', undefined, false, found).dirs.map((d) => d.path)[1]).toBe('/sys/fs/cgroup/cpu/b/c')
  })
  test('v2 alone', () => {
    const found = parseHierarchies('1 0 0:9 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw', '0::/me\n')
    expect(found).toEqual([{ mountPoint: '/sys/fs/cgroup', version: 2, controllers: [], ownPath: '/me' }])
  })
  test.skipIf(process.getuid?.() !== 0 || !existsSync('/sys/fs/cgroup/unified/cgroup.procs'))(
    'a v2 hierarchy: made, limits without a controller warned about, emptied, removed',
    async () => {
      const hierarchy: Hierarchy = { mountPoint: '/sys/fs/cgroup/unified', controllers: [], version: 2, ownPath: '/' }
      const plan = planCgroups('c', `/tssandbox-unit-v2/${process.pid}`, false, [hierarchy])
      checkUnused(plan)
      createCgroups(plan)
      const dir = plan.dirs[0]!.path
      const { resources } = parseResources('{"pids":{"limit":5}}', 'x')
      expect(limitCgroups(plan, resources)[0]).toMatch(/linux\.resources\.pids\.limit: not applied/)
      const child = spawn('sleep', ['100'])
      writeFileSync(join(dir, 'cgroup.procs'), String(child.pid))
      expect(() => checkUnused(plan)).toThrow('has processes in it already')
      expect(await removeCgroups([dir])).toBe(true)
      expect(existsSync(dir)).toBe(false)
      rmdirSync('/sys/fs/cgroup/unified/tssandbox-unit-v2')
    },
  )
  test('systemd paths', () => {
    expect(systemdPath('a-b.slice:cri:c')).toBe('/a.slice/a-b.slice/cri-c.scope')
    expect(systemdPath(':docker:c')).toBe('/system.slice/docker-c.scope')
  })
  test('limits with the runtime’s allowance', () => {
    const { resources } = parseResources(
      JSON.stringify({
        memory: { limit: 1000, swap: 2000 },
        pids: { limit: 5 },
        cpu: { shares: 1024, quota: 50000, period: 100000 },
      }),
      'x',
    )
    const flat = (writes: { file: string; value: string }[]) => Object.fromEntries(writes.map((w) => [w.file, w.value]))
    expect(flat(writesV1(resources))).toEqual({
      'memory.limit_in_bytes': String(1000 + OWN_MEMORY),
      'memory.memsw.limit_in_bytes': String(2000 + OWN_MEMORY),
      'cpu.shares': '1024',
      'cpu.cfs_period_us': '100000',
      'cpu.cfs_quota_us': '50000',
      'pids.max': String(5 + OWN_TASKS),
    })
    expect(flat(writesV2(resources))).toEqual({
      'memory.max': String(1000 + OWN_MEMORY),
      'memory.swap.max': '1000',
      'cpu.weight': '39',
      'cpu.max': '50000 100000',
      'pids.max': String(5 + OWN_TASKS),
    })
  })
})

test.each([
  ['9', 9],
  ['KILL', 9],
  ['sigterm', 15],
  ['RTMIN+3', 37],
  ['SIGRTMAX', 64],
  ['0', 0],
])('signal %s', (text, number) => expect(parseSignal(text)).toBe(number))
test('no such signal', () => expect(() => parseSignal('99')).toThrow('unknown signal'))

test('log lines are as runc writes them', () => {
  const now = new Date('2026-01-02T03:04:05.678Z')
  expect(textLine('error', 'a "b"', now)).toBe('time="2026-01-02T03:04:05Z" level=error msg="a \\"b\\""')
})
