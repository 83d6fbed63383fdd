/**
 * The host cgroups of a container: made before anything runs in them, limited, emptied and removed with it. Works on v1
 * and v2 through `Hierarchy`; all host effects are writes below the mount points.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { until } from '../container/liveness.ts'
import { CliError } from '../errors.ts'
import type { Resources } from '../spec/oci.ts'
import { type Hierarchy, hostHierarchies } from './hierarchy.ts'
import { blockIoWrites, type CgroupWrite, OWN_MEMORY, writesV1, writesV2 } from './limits.ts'

export interface CgroupPlan {
  /** One directory per hierarchy. */
  dirs: { path: string; hierarchy: Hierarchy }[]
}

/** `slice:prefix:name` (systemd driver) as a path, with slices nested as systemd does. */
export function systemdPath(cgroupsPath: string): string {
  const parts = cgroupsPath.split(':')
  if (parts.length !== 3) throw new CliError(`linux.cgroupsPath: expected slice:prefix:name, got "${cgroupsPath}"`)
  const [slice, prefix, name] = parts as [string, string, string]
  const nested = (slice || 'system.slice')
    .replace(/\.slice$/, '')
    .split('-')
    .map((_, i, all) => `${all.slice(0, i + 1).join('-')}.slice`)
    .filter((s) => s !== '.slice')
  return `/${[...nested, name.endsWith('.slice') ? name : `${prefix}-${name}.scope`].join('/')}`
}

/** An absolute path counts from the mount points, a relative one (or none) from where this process is. */
export function planCgroups(
  id: string,
  cgroupsPath: string | undefined,
  systemd: boolean,
  hierarchies: Hierarchy[] = hostHierarchies(),
): CgroupPlan {
  let path = cgroupsPath || id
  if (systemd && cgroupsPath?.includes(':')) path = systemdPath(cgroupsPath)
  const dirs = hierarchies.map((hierarchy) => {
    const below = path.startsWith('/') ? normalize(path) : normalize(join('/', hierarchy.ownPath, path))
    if (below === '/') throw new CliError('linux.cgroupsPath: must not be the root of the hierarchy')
    return { hierarchy, path: join(hierarchy.mountPoint, below) }
  })
  return { dirs }
}

/** A new cpuset has no CPUs, and nobody can enter it until it does: take the parent's, from the top down. */
function fillCpuset(dir: string, mountPoint: string): void {
  if (dir !== mountPoint) fillCpuset(dirname(dir), mountPoint)
  for (const file of ['cpuset.cpus', 'cpuset.mems']) {
    const path = join(dir, file)
    if (dir !== mountPoint && readFileSync(path, 'utf8').trim() === '')
      writeFileSync(path, readFileSync(join(dirname(dir), file), 'utf8'))
  }
}

/** On v2 a controller has to be handed down by each parent. Those that cannot be are found missing when written to. */
function enableControllers(dir: string, mountPoint: string): void {
  const below = dir.slice(mountPoint.length).split('/').filter(Boolean).slice(0, -1)
  let at = mountPoint
  for (const part of ['', ...below]) {
    at = join(at, part)
    const available = readFileSync(join(at, 'cgroup.controllers'), 'utf8').trim().split(/\s+/).filter(Boolean)
    for (const controller of available) {
      try {
        writeFileSync(join(at, 'cgroup.subtree_control'), `+${controller}`)
      } catch {}
    }
  }
}

/** Everything in a container's cgroup is killed with it, so it must be the container's alone. */
export function checkUnused(plan: CgroupPlan): void {
  for (const { path } of plan.dirs) {
    if (processes(path).length) throw new CliError(`linux.cgroupsPath: cgroup ${path} has processes in it already`)
  }
}

export function createCgroups(plan: CgroupPlan): void {
  for (const { path, hierarchy } of plan.dirs) {
    mkdirSync(path, { recursive: true })
    if (hierarchy.controllers.includes('cpuset')) fillCpuset(path, hierarchy.mountPoint)
    if (hierarchy.version === 2) enableControllers(path, hierarchy.mountPoint)
  }
}

/**
 * Below the v1 memory cgroup, one for the guest's processes alone: it gets the exact limit, and the runtime's own
 * allocations never find it full (whoever finds a cgroup full has the host kill something in it). v2 has no such place:
 * there, a cgroup with processes cannot have children with controllers.
 */
export function guestMemoryCgroups(plan: CgroupPlan): string[] {
  return plan.dirs
    .filter((d) => d.hierarchy.version === 1 && d.hierarchy.controllers.includes('memory'))
    .map((d) => join(d.path, 'guest'))
}

/** Writes the limits; returns warnings about those the host has no file for. */
export function limitCgroups(plan: CgroupPlan, resources: Resources, own = OWN_MEMORY): string[] {
  const warnings: string[] = []
  const v2 = plan.dirs.some((d) => d.hierarchy.version === 2)
  if (!v2 && Object.keys(resources.unified).length)
    warnings.push('linux.resources.unified: not applied: this host has cgroup v1')
  const writes = v2 ? writesV2(resources, own) : writesV1(resources, own)
  for (const write of [...writes, ...blockIoWrites(resources.blockIO, v2 ? 2 : 1)]) {
    const dir = v2 ? plan.dirs[0] : plan.dirs.find((d) => d.hierarchy.controllers.includes(write.controller))
    const file = dir && join(dir.path, write.file)
    if (!file || !existsSync(file)) {
      warnings.push(`linux.resources.${write.field}: not applied: this host's cgroups have no ${write.file}`)
      continue
    }
    writeLimit(file, write)
    const guest = join(dir.path, 'guest', write.file)
    if (write.guestValue !== undefined && existsSync(guest)) writeLimit(guest, { ...write, value: write.guestValue })
  }
  return warnings
}

function writeLimit(file: string, { value, field }: CgroupWrite): void {
  try {
    writeFileSync(file, value)
  } catch (error) {
    throw new CliError(`linux.resources.${field}: writing "${value}" to ${file}: ${(error as Error).message}`)
  }
}

/** A memory limit and its memory+swap limit have to be changed in the order that keeps swap ≥ memory. */
export function updateCgroups(plan: CgroupPlan, resources: Resources, own = OWN_MEMORY): string[] {
  try {
    return limitCgroups(plan, resources, own)
  } catch (error) {
    const memory = plan.dirs.find((d) => d.hierarchy.controllers.includes('memory'))
    if (!memory || !resources.memory?.limit || !resources.memory.swap) throw error
    limitCgroups(plan, { ...resources, memory: { ...resources.memory, limit: undefined } }, own)
    return limitCgroups(plan, resources, own)
  }
}

function processes(dir: string): number[] {
  try {
    return readFileSync(join(dir, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean).map(Number)
  } catch {
    return []
  }
}

/** Kills what is left in the cgroups, then removes them. False: something would not die or go. */
export async function removeCgroups(dirs: string[]): Promise<boolean> {
  const emptied = await until(() => {
    let left = 0
    for (const dir of dirs) {
      for (const pid of processes(dir)) {
        left++
        try {
          process.kill(pid, 'SIGKILL')
        } catch {}
      }
    }
    return left === 0
  }, 10_000)
  const removed = await until(() => dirs.filter((dir) => !removeDir(dir)).length === 0, 2_000)
  return emptied && removed
}

function removeDir(dir: string): boolean {
  try {
    for (const entry of readdirSync(dir, { withFileTypes: true }))
      if (entry.isDirectory()) removeDir(join(dir, entry.name))
    rmdirSync(dir)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT'
  }
}
