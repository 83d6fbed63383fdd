/**
 * What a gofer serves: JSON on an inherited descriptor, written by the CLI. Checked once, at start-up.
 */

export interface MountConfig {
  /** What requests name it by. */
  readonly id: number
  /** Absolute host path, symbolic links followed. */
  readonly source: string
  readonly kind: 'dir' | 'file'
  readonly readonly: boolean
  /** Mounts below `source` come along (OCI rbind), except for pseudo file systems. */
  readonly recursive: boolean
  /** Others change it while we serve: nothing about its names is remembered. */
  readonly shared: boolean
  /** mknod may make device nodes. They can never be opened. */
  readonly allowDevices: boolean
}

export interface GoferConfig {
  readonly mounts: readonly MountConfig[]
  /** false only in tests: serve without namespaces, chroot, capability drop and filter. */
  readonly confine: boolean
  /** How many files a VM may have us hold at a time (9P only). */
  readonly maxDescriptors: number
}

const MAX_MOUNTS = 512
const MAX_DESCRIPTORS = 131_072

function bool(value: unknown, fallback: boolean, field: string): boolean {
  if (value === undefined) return fallback
  if (typeof value !== 'boolean') throw new Error(`${field}: expected true or false`)
  return value
}

function parseMount(value: unknown, index: number, ids: Set<number>): MountConfig {
  const at = `mounts[${index}]`
  if (typeof value !== 'object' || value === null) throw new Error(`${at}: expected an object`)
  const m = value as Record<string, unknown>
  const { id, source, kind } = m
  if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id > 0xffff)
    throw new Error(`${at}.id: expected 0…65535`)
  if (ids.has(id)) throw new Error(`${at}.id: ${id} is used twice`)
  ids.add(id)
  if (typeof source !== 'string' || !source.startsWith('/') || source.includes('\0')) {
    throw new Error(`${at}.source: expected an absolute path`)
  }
  if (kind !== undefined && kind !== 'dir' && kind !== 'file') throw new Error(`${at}.kind: expected "dir" or "file"`)
  return {
    id,
    source,
    kind: kind ?? 'dir',
    readonly: bool(m['readonly'], false, `${at}.readonly`),
    recursive: bool(m['recursive'], false, `${at}.recursive`),
    shared: bool(m['shared'], true, `${at}.shared`),
    allowDevices: bool(m['allowDevices'], false, `${at}.allowDevices`),
  }
}

export function parseConfig(text: string): GoferConfig {
  const value: unknown = JSON.parse(text)
  if (typeof value !== 'object' || value === null) throw new Error('expected an object')
  const { mounts, confine, maxDescriptors = MAX_DESCRIPTORS } = value as Record<string, unknown>
  if (!Array.isArray(mounts) || mounts.length > MAX_MOUNTS) throw new Error(`mounts: expected at most ${MAX_MOUNTS}`)
  const ids = new Set<number>()
  if (typeof maxDescriptors !== 'number' || !(maxDescriptors >= 1 && maxDescriptors <= MAX_DESCRIPTORS)) {
    throw new Error(`maxDescriptors: expected 1…${MAX_DESCRIPTORS}`)
  }
  return {
    mounts: mounts.map((m, i) => parseMount(m, i, ids)),
    confine: bool(confine, true, 'confine'),
    maxDescriptors,
  }
}
