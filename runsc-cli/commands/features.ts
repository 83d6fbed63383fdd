/** features: what this runtime can do, in the runtime-spec's shape. */
import type { Invocation } from '../command.ts'
import { CAPABILITIES } from '../spec/capabilities.ts'
import { MOUNT_OPTIONS } from '../spec/mounts.ts'

export async function body(_: Invocation<object>): Promise<number> {
  const features = {
    ociVersionMin: '1.0.0',
    ociVersionMax: '1.2.0',
    hooks: ['prestart', 'createRuntime', 'createContainer', 'startContainer', 'poststart', 'poststop'],
    mountOptions: MOUNT_OPTIONS,
    linux: {
      namespaces: ['cgroup', 'ipc', 'mount', 'network', 'pid', 'uts'],
      capabilities: CAPABILITIES,
      cgroup: { v1: true, v2: true, systemd: false, systemdUser: false, rdma: false },
      seccomp: { enabled: false },
      apparmor: { enabled: false },
      selinux: { enabled: false },
      intelRdt: { enabled: false },
      mountExtensions: { idmap: { enabled: false } },
    },
    annotations: {},
    potentiallyUnsafeConfigAnnotations: [],
  }
  process.stdout.write(`${JSON.stringify(features, null, 2)}\n`)
  return 0
}
