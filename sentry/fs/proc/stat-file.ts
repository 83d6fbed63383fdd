/**
 * /proc/stat (Linux: fs/proc/stat.c): CPU time as the container used it. Time that the container did not use is idle,
 * whatever the host did with it.
 */
import { readRealtime, uptimeNs } from '../../kernel/clock.ts'
import { groupCpu } from '../../kernel/cpu-times.ts'
import { addExitHook } from '../../kernel/exit.ts'
import { hostCpus } from '../../kernel/host-proc.ts'
import type { Kernel } from '../../kernel/kernel.ts'
import { BLOCKED, DEAD, STOPPED, TRACED } from '../../kernel/task.ts'
import { ticks } from './format.ts'

/** Of processes that have ended. */
let endedUserNs = 0
let endedSystemNs = 0
addExitHook((group) => {
  const cpu = groupCpu(group)
  endedUserNs += cpu.userNs
  endedSystemNs += cpu.systemNs
})

/** CPU time of the container: of its processes, and of those that it had. */
export function containerCpu(kernel: Kernel): { userNs: number; systemNs: number } {
  let userNs = endedUserNs
  let systemNs = endedSystemNs
  for (const g of kernel.ids.groups()) {
    if (g.zombie) continue
    const cpu = groupCpu(g)
    userNs += cpu.userNs
    systemNs += cpu.systemNs
  }
  return { userNs, systemNs }
}

export function renderStatFile(kernel: Kernel): string {
  const cpus = hostCpus()
  const up = uptimeNs()
  const { userNs: user, systemNs: system } = containerCpu(kernel)
  let running = 0
  for (const t of kernel.ids.tasks())
    if (t.state !== BLOCKED && t.state !== STOPPED && t.state !== TRACED && t.state !== DEAD) running++
  const line = (name: string, share: number): string => {
    const idle = Math.max(0, (up * cpus - user - system) * share)
    return `${name} ${ticks(user * share)} 0 ${ticks(system * share)} ${ticks(idle)} 0 0 0 0 0 0\n`
  }
  let text = line('cpu ', 1)
  for (let i = 0; i < cpus; i++) text += line(`cpu${i}`, 1 / cpus)
  const now = readRealtime()
  return (
    `${text}intr 0\nctxt ${kernel.syscalls}\nbtime ${Math.floor(now.sec + now.nsec / 1e9 - up / 1e9)}\n` +
    `processes ${kernel.ids.lastId}\nprocs_running ${Math.max(1, running)}\nprocs_blocked 0\n` +
    'softirq 0 0 0 0 0 0 0 0 0 0 0\n'
  )
}
