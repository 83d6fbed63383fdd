/**
 * Names that guests ask for again and again, told to the platform, which may answer for them without the sentry. Linux has
 * no such table; it answers from its dcache within the caller's own system call.
 *
 * Must stay true: an entry is withdrawn before the call that makes, moves or removes its name returns. So it belongs to the
 * (mostly negative) dentry at which the walk ended, and goes with it ({@link withdrawNames}); all else that could change the
 * answer moves `Dentry.generation` (walk-cache.ts), and entries of another generation do not count. Everybody has to get the same answer:
 * only walks of absolute names, from a namespace's own root, over directories that all may search and list.
 */
import { EINVAL, ENOENT } from '../abi/errno.ts'
import type { Task } from '../kernel/task.ts'
import type { KnownNames } from '../platform/platform.ts'
import type { Dentry } from './dentry.ts'

let table: KnownNames | null = null
/** By entry: the dentry that it stands for; null: withdrawn. */
let owners: (Dentry | null)[] = []

export function shareNames(known: KnownNames | null): void {
  table = known
  owners = new Array<Dentry | null>(known === null ? 0 : known.size).fill(null)
}

/** A walk of `name`, absolute, ended at `absent`. Precondition: it is steady and goes the same way for everybody. */
export function tellAbsent(t: Task, name: string, absent: Dentry): void {
  publish(t, name, absent, ENOENT)
}

/** The same for a name that leads to what is no link: readlink(2) says EINVAL. */
export function tellNoLink(t: Task, name: string, dentry: Dentry): void {
  publish(t, name, dentry, EINVAL)
}

function publish(t: Task, name: string, dentry: Dentry, result: number): void {
  if (table === null || t.kernel.tracer !== null) return
  const { namesRoot } = t.fs
  if (namesRoot === 0) return
  t.renewRoot()
  const index = table.publish(name, namesRoot, result)
  if (index < 0) return
  if (owners[index] === dentry) return
  owners[index] = dentry
  dentry.known = dentry.known === 0 ? index + 1 : -1
}

/** The place of `dentry` gets another, or it another place. */
export function withdrawNames(dentry: Dentry): void {
  const { known } = dentry
  dentry.known = 0
  if (known < 0) for (let i = 0; i < owners.length; i++) if (owners[i] === dentry) withdraw(i)
  if (known > 0 && owners[known - 1] === dentry) withdraw(known - 1)
}

export function withdrawAllNames(): void {
  for (let i = 0; i < owners.length; i++) withdraw(i)
}

function withdraw(index: number): void {
  owners[index] = null
  table!.withdraw(index)
}
