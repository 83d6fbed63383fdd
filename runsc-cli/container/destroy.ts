/** Takes a container away: processes, cgroups, directory, in an order that can be interrupted and repeated. */
import { readFileSync } from 'node:fs'
import { removeCgroups } from '../cgroup/cgroup.ts'
import { CliError } from '../errors.ts'
import type { ContainerDirectory, ContainerState } from './directory.ts'
import { runHooksAnyway } from './hooks.ts'
import { ended, isAlive, sendSignal } from './liveness.ts'
import { ociState } from './status.ts'

/** How long a gofer may take to see that its sentry is gone. */
const GOFER_GRACE_MS = 500
const KILL_PATIENCE_MS = 10_000

/** Returns warnings (of poststop hooks). `state` null: the creator died before it wrote anything. */
export async function destroy(directory: ContainerDirectory, state: ContainerState | null): Promise<string[]> {
  let warnings: string[] = []
  if (state) {
    sendSignal(state.sentry, 'SIGKILL')
    const sentryGone = await ended(state.sentry, KILL_PATIENCE_MS)
    // A virtual machine's has nothing left to do, but hears of its end only when QEMU is gone.
    const waits = state.platform !== 'microvm'
    if (!waits || !(await ended(state.gofer, GOFER_GRACE_MS))) sendSignal(state.gofer, 'SIGKILL')
    const goferGone = await ended(state.gofer, KILL_PATIENCE_MS)
    const cgroupsGone = await removeCgroups([...state.cgroups].reverse())
    if (!sentryGone || !goferGone || !cgroupsGone)
      throw new CliError(`container "${directory.id}": ${leftovers(state)} would not go`)
    if (state.phase !== 'creating')
      warnings = await runHooksAnyway('poststop', state.hooks.poststop, ociState(state, 'stopped'))
  }
  directory.remove()
  return warnings
}

function leftovers(state: ContainerState): string {
  if (isAlive(state.sentry)) return `sentry ${state.sentry!.pid}`
  if (isAlive(state.gofer)) return `gofer ${state.gofer!.pid}`
  for (const dir of state.cgroups) {
    try {
      return `cgroup ${dir} with processes ${readFileSync(`${dir}/cgroup.procs`, 'utf8').trim().split('\n').join(' ')}`
    } catch {}
  }
  return 'something'
}
