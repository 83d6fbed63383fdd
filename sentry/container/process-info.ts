/**
 * What `ps` and `top` of the CLI show of a process.
 */
import type { ProcessInfo } from '../control/protocol.ts'
import { readRealtime } from '../kernel/clock.ts'
import { groupCpu } from '../kernel/cpu-times.ts'
import type { Kernel } from '../kernel/kernel.ts'
import { BLOCKED, STOPPED, TRACED } from '../kernel/task.ts'
import type { ThreadGroup } from '../kernel/thread-group.ts'

const MAX_COMMAND = 4096

export function processInfo(kernel: Kernel, group: ThreadGroup): ProcessInfo {
  const t = group.leader
  const cpu = groupCpu(group)
  const age = (kernel.now() - group.startTime) / 1e9
  return {
    pid: group.pid,
    ppid: group.parent?.pid ?? 0,
    hostPid: t.thread.space.hostPid,
    uid: t.creds.euid,
    state: t.state === STOPPED || t.state === TRACED ? 'T' : t.state === BLOCKED ? 'S' : 'R',
    threads: group.tasks.length,
    cpuMs: Math.round((cpu.userNs + cpu.systemNs) / 1e6),
    startTime: Math.round(readRealtime().sec - age),
    tty: group.pgrp.session.tty === null ? '?' : 'pts/0',
    command: commandLine(group),
  }
}

function commandLine(group: ThreadGroup): string {
  const { mm, name } = group.leader
  const len = Math.min(mm.argEnd - mm.argStart, MAX_COMMAND)
  if (len <= 0) return name
  const buf = Buffer.alloc(len)
  const got = mm.copyIn(mm.argStart, buf, 0, len)
  return buf.latin1Slice(0, got).replace(/\0+$/, '').replaceAll('\0', ' ') || name
}
