/**
 * containerd with its Kubernetes face (CRI), of the tests' own, and a client of it: what a kubelet asks for a pod. Nothing is
 * pulled: one image of the busybox root serves for the pod's pause container, too.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type ClientUnaryCall, credentials, loadPackageDefinition, type ServiceError } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import { busyboxRoot } from './roots.ts'
import { TSSANDBOX } from './run.ts'

export const CRI_IMAGE = 'docker.io/tssandbox-test/cri:latest'
const RUNTIMES = ['tssandbox', 'tssandbox-vm']
/** The host's end of the pod's network. */
const LINK = `tsc${process.pid}`

type Answer = Record<string, unknown>
type Method = (
  request: object,
  options: object,
  done: (error: ServiceError | null, answer: Answer) => void,
) => ClientUnaryCall
type Client = { close(): void } & Record<string, Method>

export class Cri {
  private readonly base: string
  private readonly daemon: ChildProcess
  private readonly client: Client

  constructor(base: string, daemon: ChildProcess, client: Client) {
    this.base = base
    this.daemon = daemon
    this.client = client
  }

  /** One request of RuntimeService. */
  call<T = Answer>(method: string, request: object, seconds = 60): Promise<T> {
    return new Promise((resolve, reject) => {
      const deadline = Date.now() + 1000 * seconds
      this.client[method]!(request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer as T)))
    })
  }

  stop(): void {
    this.client.close()
    this.daemon.kill()
    // What a failed test has left.
    spawnSync('pkill', ['-9', '-f', this.base])
    const mounts = readFileSync('/proc/mounts', 'utf8')
      .split('\n')
      .map((line) => line.split(' ')[1] ?? '')
    const ours = mounts.filter((path) => path.startsWith(this.base))
    if (ours.length > 0) spawnSync('umount', ['-l', ...ours.reverse()])
    spawnSync('ip', ['link', 'del', LINK])
    rmSync(this.base, { recursive: true, force: true, maxRetries: 20, retryDelay: 200 })
  }
}

/** A docker-archive with one layer that runs for ever. */
function writeImage(base: string, root: string): string {
  const folder = join(base, 'image')
  mkdirSync(folder)
  spawnSync('tar', ['-C', root, '-cf', join(folder, 'layer.tar'), '.'])
  const sha = createHash('sha256')
    .update(readFileSync(join(folder, 'layer.tar')))
    .digest('hex')
  const config = {
    architecture: 'amd64',
    os: 'linux',
    config: { Cmd: ['sleep', '100000'] },
    rootfs: { type: 'layers', diff_ids: [`sha256:${sha}`] },
  }
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config))
  const manifest = [{ Config: 'config.json', RepoTags: [CRI_IMAGE], Layers: ['layer.tar'] }]
  writeFileSync(join(folder, 'manifest.json'), JSON.stringify(manifest))
  const archive = join(base, 'image.tar')
  spawnSync('tar', ['-C', folder, '-cf', archive, 'manifest.json', 'config.json', 'layer.tar'])
  return archive
}

/** The address of the pod that runs: one at a time. */
export const POD_IP = '10.88.7.2'

/** A network plugin (CNI) with what a pod expects: an interface with an address, and loopback. */
function writeNetwork(base: string): void {
  mkdirSync(join(base, 'cni'))
  mkdirSync(join(base, 'net.d'))
  const script = `#!/bin/sh
ns=\${CNI_NETNS##*/}
host=${LINK}
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"0.4.0","supportedVersions":["0.3.1","0.4.0"]}' ;;
ADD)
  if [ "\${0##*/}" = loopback ]; then
    ip -n "$ns" link set lo up
    echo '{"cniVersion":"0.4.0","ips":[{"version":"4","address":"127.0.0.1/8"}]}'
    exit
  fi
  ip link add "$host" type veth peer name "$CNI_IFNAME" netns "$ns" &&
    ip addr add 10.88.7.1/24 dev "$host" && ip link set "$host" up &&
    ip -n "$ns" addr add ${POD_IP}/24 dev "$CNI_IFNAME" && ip -n "$ns" link set "$CNI_IFNAME" up || exit 1
  echo '{"cniVersion":"0.4.0","interfaces":[{"name":"'"$CNI_IFNAME"'","sandbox":"'"$CNI_NETNS"'"}],"ips":[{"version":"4","address":"${POD_IP}/24","interface":0}]}' ;;
DEL) [ "\${0##*/}" = loopback ] || ip link del "$host" 2>/dev/null ;;
esac
exit 0
`
  for (const name of ['loopback', 'test-veth']) writeFileSync(join(base, 'cni', name), script, { mode: 0o755 })
  const list = { cniVersion: '0.4.0', name: 'test', plugins: [{ type: 'test-veth' }] }
  writeFileSync(join(base, 'net.d', '10-test.conflist'), JSON.stringify(list))
}

/** The runtimes by the handler that a RuntimeClass would name. Flags of a runtime need a program of their own. */
function writeConfig(base: string): string {
  const program = (name: string): string => {
    if (name === 'tssandbox') return TSSANDBOX
    const path = join(base, name)
    writeFileSync(path, `#!/bin/sh\nexec ${TSSANDBOX} --platform=microvm "$@"\n`, { mode: 0o755 })
    return path
  }
  const cri = 'plugins."io.containerd.grpc.v1.cri"'
  const runtimes = RUNTIMES.map(
    (name) => `[${cri}.containerd.runtimes.${name}]
runtime_type = "io.containerd.runc.v2"
[${cri}.containerd.runtimes.${name}.options]
BinaryName = "${program(name)}"
`,
  )
  const file = join(base, 'config.toml')
  writeFileSync(
    file,
    `version = 2
root = "${base}/root"
state = "${base}/state"
[grpc]
address = "${base}/sock"
[${cri}]
sandbox_image = "${CRI_IMAGE}"
disable_tcp_service = true
enable_selinux = false
[${cri}.cni]
bin_dir = "${base}/cni"
conf_dir = "${base}/net.d"
[${cri}.containerd]
snapshotter = "native"
default_runtime_name = "tssandbox"
${runtimes.join('')}`,
  )
  return file
}

async function connect(address: string): Promise<Client | null> {
  const definition = loadSync(join(import.meta.dirname, 'cri.proto'), {
    keepCase: true,
    longs: Number,
    enums: Number,
    defaults: true,
  })
  const service = (
    loadPackageDefinition(definition) as unknown as {
      runtime: { v1: { RuntimeService: new (address: string, c: object) => Client } }
    }
  ).runtime.v1.RuntimeService
  for (let attempt = 0; attempt < 100; attempt++) {
    if (existsSync(address)) {
      const client = new service(`unix://${address}`, credentials.createInsecure())
      const error = await new Promise((resolve) => client.Version!({}, { deadline: Date.now() + 3000 }, resolve))
      if (error === null) return client
      client.close()
    }
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  return null
}

/** Starts the daemon and imports the image, or says why that cannot be. */
export async function setUpCri(): Promise<{ cri: Cri } | { missing: string }> {
  if (process.getuid?.() !== 0) return { missing: 'not root' }
  const root = busyboxRoot()
  if ('missing' in root) return root
  if (spawnSync('containerd', ['--version']).status !== 0) return { missing: 'no containerd' }
  mkdirSync('/var/lib/tssandbox-test', { recursive: true })
  const base = mkdtempSync('/var/lib/tssandbox-test/cri-')
  writeNetwork(base)
  const log = openSync(join(base, 'log'), 'w')
  const daemon = spawn('containerd', ['--config', writeConfig(base)], { stdio: ['ignore', log, log] })
  const client = await connect(join(base, 'sock'))
  if (client === null) {
    const last = readFileSync(join(base, 'log'), 'utf8').trim().split('\n').at(-1)
    daemon.kill()
    return { missing: `containerd does not answer: ${last}` }
  }
  const cri = new Cri(base, daemon, client)
  const imported = spawnSync(
    'ctr',
    [
      '-a',
      join(base, 'sock'),
      '-n',
      'k8s.io',
      'images',
      'import',
      '--snapshotter',
      'native',
      writeImage(base, root.path),
    ],
    { encoding: 'utf8' },
  )
  if (imported.status === 0) return { cri }
  cri.stop()
  return { missing: `ctr images import: ${imported.stderr.trim()}` }
}
