/**
 * Results of recent walks by name, so that stat and open of the same path again cost one look into a map instead of one
 * per component.
 *
 * A result counts while nothing on its way can have changed: `Dentry.generation` moves with every rename or removal of
 * what is not a plain file, every change of a directory's rights, and every mount; a plain file's own move or removal
 * changes the dentry's `version`. Only names found without shared file systems, magic links or scoped walks are kept.
 */
import type { Credentials } from '../kernel/credentials.ts'
import type { Task } from '../kernel/task.ts'
import { Dentry } from './dentry.ts'
import type { Mount } from './mount.ts'
import type { Path } from './path.ts'

const MAX_ENTRIES = 4096

export class Walk {
  readonly start: Dentry
  readonly startMount: Mount
  readonly root: Path
  readonly creds: Credentials
  readonly flags: number
  readonly generation = Dentry.generation
  readonly version: number
  readonly path: Path
  readonly everybody: boolean

  constructor(start: Dentry, startMount: Mount, t: Task, flags: number, path: Path, everybody: boolean) {
    this.start = start
    this.startMount = startMount
    this.root = t.fs.root
    this.creds = t.creds
    this.flags = flags
    this.version = path.dentry.version
    this.path = path
    this.everybody = everybody
  }
}

const WALKS = new Map<string, Walk>()

export function cachedWalk(name: string, start: Dentry, startMount: Mount, t: Task, flags: number): Walk | null {
  const w = WALKS.get(name)
  if (w === undefined || w.generation !== Dentry.generation || w.version !== w.path.dentry.version) return null
  if (w.start !== start || w.startMount !== startMount || w.flags !== flags || w.creds !== t.creds) return null
  const { root } = t.fs
  return w.root.dentry === root.dentry && w.root.mount === root.mount ? w : null
}

export function rememberWalk(
  name: string,
  start: Dentry,
  startMount: Mount,
  t: Task,
  flags: number,
  path: Path,
  everybody: boolean,
): void {
  if (WALKS.size >= MAX_ENTRIES) WALKS.clear()
  WALKS.set(name, new Walk(start, startMount, t, flags, path, everybody))
}
