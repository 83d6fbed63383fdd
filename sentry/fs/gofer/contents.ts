/**
 * What is known of a directory: all its names (as ceph's and NFS's complete directories), from a listing or because it was
 * made empty, and kept true while we make and remove names. A name that is not here does not exist, which saves asking.
 *
 * What must stay true, on an exclusive mount: listing and changes give exactly the directory's names, and a name leads to an entry
 * of the listing only while that entry's stat record is what the gofer would say now. Others change even such mounts now
 * and then (`docker cp`), so it counts for TRUSTED_NS only. On a shared mount it is the last listing, for readers that
 * come back with a position, and counts for as long as attributes do.
 */
import { monotonicNs } from '../../kernel/clock.ts'
import type { Listing } from './listing.ts'
import type { NamedInode } from './named-inode.ts'

/** The entry is none of the listing, or no longer as listed. */
export const ASK = -1
const GONE = -2
/** Long enough for whoever lists a directory and looks at its files next, or fills one that it has just made. */
const TRUSTED_NS = 2e9
/** Names of all directories together. Some 300 bytes each. */
export const MAX_NAMES = 65_536
/** What a directory without names weighs. */
const EMPTY = 16

export class Contents {
  /** null: there never was one. */
  readonly listing: Listing | null
  /** Whether the listing still shows all names. */
  current: boolean
  /** Where the directory differs from the listing: ASK, or GONE. */
  private readonly changes = new Map<string, number>()
  private readonly since: number

  constructor(listing: Listing | null) {
    this.listing = listing
    this.current = listing !== null
    this.since = listing === null ? monotonicNs() : listing.since
  }

  get trusted(): boolean {
    return monotonicNs() - this.since < TRUSTED_NS
  }
  get weight(): number {
    return EMPTY + (this.listing?.weight ?? 0) + this.changes.size
  }

  /** The entry of `name`, ASK, or undefined: there is none. */
  find(name: string): number | undefined {
    const { listing, changes } = this
    if (listing !== null && !listing.complete) return ASK
    const change = changes.size === 0 ? undefined : changes.get(name)
    if (change !== undefined) return change === GONE ? undefined : change
    return listing?.find(name)
  }

  /** The object called `name` is no longer as it was listed. */
  ask(name: string): void {
    if (this.find(name) !== undefined) this.changes.set(name, ASK)
  }
  add(name: string): void {
    this.changes.set(name, ASK)
    this.current = false
  }
  remove(name: string): void {
    if (this.listing?.find(name) === undefined) this.changes.delete(name)
    else this.changes.set(name, GONE)
    this.current = false
  }
}

/** Bounds what is known of all directories of a mount. */
export class KnownDirectories {
  /** Oldest first. */
  private readonly dirs = new Map<NamedInode, number>()
  private total = 0

  /** `dir` has new contents. The newest stay, whatever their size: somebody is reading them. */
  keep(dir: NamedInode, weight: number): void {
    this.drop(dir)
    this.dirs.set(dir, weight)
    this.total += weight
    while (this.total > MAX_NAMES && this.dirs.size > 1) {
      const oldest: NamedInode = this.dirs.keys().next().value!
      oldest.dropContents()
    }
  }

  drop(dir: NamedInode): void {
    this.total -= this.dirs.get(dir) ?? 0
    this.dirs.delete(dir)
  }
}
