/**
 * Pods as Kubernetes asks for them: containerd's CRI with this runtime as a handler, which is what a RuntimeClass names.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { CRI_IMAGE, type Cri, POD_IP, setUpCri } from '../support/cri.ts'
import { setUpVms, vmRoot } from '../support/roots.ts'
import { until } from '../support/tssandbox.ts'

const POD = 0
const CONTAINER = 1
const EXITED = 2
const NAMESPACES = { namespace_options: { network: POD, pid: CONTAINER, ipc: POD } }

const version = readFileSync('/proc/version', 'utf8')
const setUp = await setUpCri()
const why = 'missing' in setUp ? setUp.missing : ''
const cri = ('cri' in setUp ? setUp.cri : null) as Cri
const noVm = vmRoot().why

describe.skipIf(why)(`a pod under containerd's CRI ${why}`, { timeout: 120_000 }, () => {
  const base = mkdtempSync(join(tmpdir(), 'tssandbox-cri-'))
  let count = 0
  afterAll(() => {
    cri.stop()
    rmSync(base, { recursive: true, force: true })
  })

  describe.each(['tssandbox', 'tssandbox-vm'])('%s', (handler) => {
    const isVm = handler === 'tssandbox-vm'
    const inVm = test.skipIf(isVm && noVm)
    beforeAll(() => {
      if (isVm && !noVm) setUpVms()
    }, 300_000)

    inVm('two containers: exec, logs, a volume, limits, exit codes, and no trace afterwards', async () => {
      const n = count++
      const config = {
        metadata: { name: `pod-${n}`, uid: `uid-${n}`, namespace: 'test', attempt: 0 },
        hostname: 'the-pod',
        log_directory: base,
        linux: { security_context: NAMESPACES },
      }
      const pod = (await cri.call<{ pod_sandbox_id: string }>('RunPodSandbox', { config, runtime_handler: handler }))
        .pod_sandbox_id
      const container = async (name: string, script: string) => {
        const request = {
          pod_sandbox_id: pod,
          sandbox_config: config,
          config: {
            metadata: { name },
            image: { image: CRI_IMAGE },
            command: ['sh', '-c', script],
            mounts: [{ container_path: '/v', host_path: base }],
            log_path: `${name}-${n}.log`,
            linux: {
              resources: { memory_limit_in_bytes: 100 * 1024 * 1024 },
              security_context: NAMESPACES,
            },
          },
        }
        const { container_id } = await cri.call<{ container_id: string }>('CreateContainer', request)
        await cri.call('StartContainer', { container_id })
        return container_id
      }
      const exec = async (container_id: string, ...cmd: string[]) => {
        const r = await cri.call<{ stdout: Buffer; stderr: Buffer; exit_code: number }>('ExecSync', {
          container_id,
          cmd,
          timeout: 30,
        })
        return { out: r.stdout.toString(), err: r.stderr.toString(), code: r.exit_code }
      }
      const status = async (container_id: string) =>
        (await cri.call<{ status: { state: number; exit_code: number } }>('ContainerStatus', { container_id })).status

      const server = await container(
        'server',
        'echo to the log; echo from the server >/v/f; while :; do echo served | nc -l -p 7071; done',
      )
      const other = await container('other', 'while [ ! -e /v/done ]; do sleep 0.1; done; exit 7')
      expect(await exec(server, 'sh', '-c', 'echo out; echo err >&2; exit 3')).toEqual({
        out: 'out\n',
        err: 'err\n',
        code: 3,
      })
      expect((await exec(other, 'cat', '/v/f')).out).toBe('from the server\n')
      expect((await exec(other, 'uname', '-n')).out).toBe('the-pod\n')
      expect((await exec(server, 'cat', '/proc/version')).out).not.toBe(version)
      // One network: loopback between the containers, the pod's address from outside.
      await until(async () => (await exec(other, 'nc', '127.0.0.1', '7071')).out === 'served\n')
      await until(
        () => spawnSync('busybox', ['nc', '-w', '5', POD_IP, '7071'], { encoding: 'utf8' }).stdout === 'served\n',
      )
      await until(() => readFileSync(join(base, `server-${n}.log`), 'utf8').includes('to the log'))
      expect(readFileSync(join(base, `server-${n}.log`), 'utf8')).toMatch(/^\S+ stdout F to the log\n/)

      writeFileSync(join(base, 'done'), '')
      await until(async () => (await status(other)).state === EXITED)
      expect((await status(other)).exit_code).toBe(7)
      rmSync(join(base, 'done'))
      await cri.call('StopContainer', { container_id: server, timeout: 1 })
      expect((await status(server)).exit_code).toBe(137)
      for (const container_id of [server, other]) await cri.call('RemoveContainer', { container_id })
      await cri.call('StopPodSandbox', { pod_sandbox_id: pod })
      await cri.call('RemovePodSandbox', { pod_sandbox_id: pod })
      const left = spawnSync('pgrep', ['-f', pod], { encoding: 'utf8' }).stdout
      expect(left).toBe('')
    })
  })
})
