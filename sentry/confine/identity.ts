/**
 * The user and group of one sandbox: its stub processes from their start, its sentry once it is confined. Nobody else on
 * the host has them, so the kernel's ordinary rule (one's own user's processes only) is what lets the sentry read, write
 * and kill its stubs, and nothing besides: neither the host's processes nor another sandbox's.
 */
import { readFileSync } from 'node:fs'

/** Above the ids that distributions and systemd hand out (containers end at 0x6fffffff), below 2³¹. Pids are < 2²². */
export const FIRST_SANDBOX_ID = 0x70000000
const NOBODY = 65534

/** Whether /proc/self/uid_map or gid_map, as `map`, holds `id`. */
export function isMapped(map: string, id: number): boolean {
  return map.split('\n').some((line) => {
    const [first = Number.NaN, , count = 0] = line.trim().split(/\s+/).map(Number)
    return id >= first && id < first + count
  })
}

/** Unique while this process lives. In a user namespace without so many ids, all sandboxes share `nobody`. */
export function sandboxId(): number {
  const id = FIRST_SANDBOX_ID + process.pid
  const mapped = (kind: string) => isMapped(readFileSync(`/proc/self/${kind}_map`, 'latin1'), id)
  return mapped('uid') && mapped('gid') ? id : NOBODY
}
