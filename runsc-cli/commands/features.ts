/** features: what this runtime can do, in the runtime-spec's shape. */
import type { Invocation } from '../command.ts'
import { CAPABILITIES } from '../spec/capabilities.ts'
import { MOUNT_OPTIONS } from '../spec/mounts.ts'

/** Of a guest's kernel: microvm/seccomp.ts. The sentry does without. */
const SECCOMP = {
  enabled: true,
  actions: ['ALLOW', 'ERRNO', 'KILL', 'KILL_PROCESS', 'KILL_THREAD', 'LOG', 'TRACE', 'TRAP'].map(
    (a) => `SCMP_ACT_${a}`,
  ),
  operators: ['EQ', 'GE', 'GT', 'LE', 'LT', 'MASKED_EQ', 'NE'].map((op) => `SCMP_CMP_${op}`),
  archs: ['SCMP_ARCH_X86_64'],
  knownFlags: ['LOG', 'SPEC_ALLOW', 'TSYNC'].map((flag) => `SECCOMP_FILTER_FLAG_${flag}`),
  supportedFlags: ['LOG', 'SPEC_ALLOW', 'TSYNC'].map((flag) => `SECCOMP_FILTER_FLAG_${flag}`),
}

export async function body({ globals }: Invocation<object>): Promise<number> {
  const features = {
    ociVersionMin: '1.0.0',
    ociVersionMax: '1.2.0',
    hooks: ['prestart', 'createRuntime', 'createContainer', 'startContainer', 'poststart', 'poststop'],
    mountOptions: MOUNT_OPTIONS,
    linux: {
      namespaces: ['cgroup', 'ipc', 'mount', 'network', 'pid', 'uts'],
      capabilities: CAPABILITIES,
      cgroup: { v1: true, v2: true, systemd: false, systemdUser: false, rdma: false },
      seccomp: globals.platform === 'microvm' ? SECCOMP : { enabled: false },
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
