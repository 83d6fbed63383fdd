/**
 * Keeps the dentry cache bounded (Linux: the dcache shrinker): a guest that looks up ever new names must not fill the
 * sentry's memory.
 *
 * Only leaves that nobody holds go: no open file, cwd or mount (`refs`, `mounted`), and no state that lives on the inode
 * object alone (locks, watches, a bound socket). File systems keep their own objects alive (tmpfs entries, changed
 * overlay inodes), so that a later lookup finds the same inode again. Runs between system calls' walks only.
 */
import { Dentry } from './dentry.ts'
import type { SuperBlock } from './super-block.ts'

/** Some 40 MB with inodes. */
const LIMIT = 100_000

/** Super blocks with dentries, weakly: those of detached file systems go by themselves. */
const roots = new Set<WeakRef<SuperBlock>>()
export function trackDentries(sb: SuperBlock): void {
  roots.add(new WeakRef(sb))
}

let limit = LIMIT

export function dropUnusedDentries(): void {
  if (Dentry.count <= limit) return
  Dentry.generation++
  let left = 0
  for (const ref of roots) {
    const sb = ref.deref()
    if (sb === undefined) roots.delete(ref)
    else left += prune(sb.rootDentry)
  }
  Dentry.count = left
  // What cannot go counts too: without this, each lookup above the limit would search the whole cache again.
  limit = Math.max(LIMIT, left * 2)
}

/**
 * Drops what can go below `root` and counts what is left. Leaves go before their directories, without recursion: a guest
 * makes trees as deep as it likes.
 */
function prune(root: Dentry): number {
  const order: Dentry[] = [root]
  for (let i = 0; i < order.length; i++) {
    const { children } = order[i]!
    if (children !== null) for (const child of children.values()) order.push(child)
  }
  let left = 0
  for (let i = order.length - 1; i > 0; i--) {
    const dentry = order[i]!
    if (!droppable(dentry)) {
      left++
      continue
    }
    const siblings = dentry.parent.children!
    siblings.delete(dentry.name)
    if (siblings.size === 0) dentry.parent.children = null
  }
  return left
}

function droppable(d: Dentry): boolean {
  if (d.refs !== 0 || d.mounted !== 0 || d.children !== null) return false
  const inode = d.inode
  if (inode === null) return true
  return inode.opens === 0 && inode.locks === null && inode.watches === null && inode.special === null
}
