/**
 * Why joining a cgroup takes 5–15 ms of waiting, and only the first time: Linux takes cgroup_threadgroup_rwsem for writing,
 * whose readers (every fork and exit) go without a lock until a writer has waited for an RCU grace period. Once it has,
 * further writers do not wait, for about 10 ms. So a process that has nothing better to do while a container is being
 * prepared joins the cgroup that it is in: nothing changes but that wait, which then is over when it matters.
 */
import { existsSync, openSync, readFileSync } from 'node:fs'
import { poll, write } from './host.ts'

/** Well below what was measured to be the least time until the next writer waits again. */
const AGAIN_MS = 7
/** Then the container is not coming. */
const PATIENCE_MS = 100

const HERE = Buffer.from('0')

/** The file of the cgroup that this process is in, of one hierarchy; −1: none is to be found. */
function openOwn(): number {
  try {
    for (const line of readFileSync('/proc/self/cgroup', 'latin1').split('\n')) {
      const [, controllers, path] = /^\d+:(?:name=)?([^:]*):(.*)$/.exec(line) ?? []
      const file = `/sys/fs/cgroup/${controllers}${path}/cgroup.procs`
      if (path !== undefined && existsSync(file)) return openSync(file, 'w')
    }
  } catch {}
  return -1
}

/** Waits once; the descriptor for {@link keepOpen}. */
export function openGate(): number {
  const fd = openOwn()
  if (fd >= 0) write(fd, HERE, 1)
  return fd
}

/** Until `channel` is readable. */
export function keepOpen(fd: number, channel: number): void {
  if (fd < 0) return
  const POLLIN = 1
  const set = new DataView(new ArrayBuffer(8))
  set.setInt32(0, channel, true)
  set.setInt16(4, POLLIN, true)
  for (let waited = 0; waited < PATIENCE_MS && poll(set, 1, AGAIN_MS) === 0; waited += AGAIN_MS) write(fd, HERE, 1)
}
