/**
 * Pods, as containerd's CRI plugin marks them: annotations say which containers belong to one sandbox. With the platform
 * `microvm` they share its virtual machine; elsewhere each container is a sandbox of its own.
 */
import type { PodConfig } from '../../sentry/control/protocol.ts'

const PREFIX = 'io.kubernetes.cri.'
const MAX_MEMORY = 2 ** 46

/** `id`: the container's own. undefined: no pod. Throws an Error that names the annotation. */
export function podOf(id: string, annotations: Readonly<Record<string, string>>): PodConfig | undefined {
  const type = annotations[`${PREFIX}container-type`]
  const sandbox = annotations[`${PREFIX}sandbox-id`]
  if (type === undefined) return undefined
  if (type !== 'sandbox' && type !== 'container')
    throw new Error(`annotations["${PREFIX}container-type"]: expected sandbox or container`)
  if (type === 'container' && !sandbox) throw new Error(`annotations["${PREFIX}sandbox-id"]: is required`)
  const memory = Number(annotations[`${PREFIX}sandbox-memory`] ?? 0)
  return {
    role: type === 'sandbox' ? 'sandbox' : 'member',
    sandbox: type === 'sandbox' ? id : sandbox!,
    memory: Number.isSafeInteger(memory) && memory > 0 && memory <= MAX_MEMORY ? memory : 0,
  }
}
