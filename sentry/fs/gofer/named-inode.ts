/**
 * The names of a file of a gofer mount, and what is known of the names in a directory.
 *
 * The gofer knows files by path only, so an inode knows (one of) its names: a parent and a name there; none once it is
 * unlinked. What must stay true: `path()` leads to this file, or is null.
 */
import { Inode } from '../../vfs/inode.ts'
import { touchCtime } from '../../vfs/times.ts'
import { ASK, Contents, MAX_NAMES } from './contents.ts'
import { Listing } from './listing.ts'
import type { GoferSuperBlock } from './super-block.ts'

interface Name {
  readonly parent: NamedInode
  readonly name: string
}

export abstract class NamedInode extends Inode {
  declare readonly sb: GoferSuperBlock
  protected parent: NamedInode | null
  protected name: string
  /** Further names that we know. */
  private aliases: Name[] | null = null
  private pathCache: string | null = null
  private pathGeneration = -1
  /** Attributes are older than a change that the host made in passing (a directory's mtime, a link count). */
  protected stale = false
  /** Of a directory: what is known of its names. */
  protected contents: Contents | null = null

  constructor(sb: GoferSuperBlock, parent: NamedInode | null, name: string) {
    super(sb, 0, 0, 0, 0)
    this.parent = parent
    this.name = name
  }

  /** From the mount's root, or null when no name is left. */
  path(): string | null {
    const { sb } = this
    if (this.pathGeneration === sb.pathGeneration) return this.pathCache
    let path: string | null = ''
    if (this.parent !== null) {
      const base = this.parent.path()
      path = base === null ? null : base === '' ? this.name : `${base}/${this.name}`
    } else if (sb.root !== (this as NamedInode)) path = null
    this.pathCache = path
    this.pathGeneration = sb.pathGeneration
    return path
  }

  protected pathOf(name: string): string | null {
    const base = this.path()
    return base === null ? null : base === '' ? name : `${base}/${name}`
  }

  addName(parent: NamedInode, name: string): void {
    if (this.parent === parent && this.name === name) return
    // A directory has one name: it was moved, on a shared mount.
    if (this.parent === null || this.isDir) this.setName(parent, name)
    else {
      this.aliases ??= []
      if (!this.aliases.some((a) => a.parent === parent && a.name === name)) this.aliases.push({ parent, name })
    }
  }

  protected setName(parent: NamedInode | null, name: string): void {
    this.parent = parent
    this.name = name
    this.pathGeneration = -1
    // Paths of everything below change too.
    if (this.isDir) this.sb.pathGeneration++
  }

  protected removeName(parent: NamedInode, name: string): void {
    if (this.aliases !== null) this.aliases = this.aliases.filter((a) => a.parent !== parent || a.name !== name)
    if (this.parent !== parent || this.name !== name) return
    const next = this.aliases?.pop()
    this.setName(next?.parent ?? null, next?.name ?? '')
  }

  /** One of its names is gone on the host. */
  protected loseName(parent: NamedInode, name: string): void {
    if (this.nlink > 0) this.nlink--
    if (this.nlink === 0) this.sb.forget(this)
    touchCtime(this)
    this.removeName(parent, name)
  }

  protected replaceName(parent: NamedInode, name: string, newParent: NamedInode, newName: string): void {
    touchCtime(this)
    if (this.parent === parent && this.name === name) {
      this.setName(newParent, newName)
      return
    }
    this.removeName(parent, name)
    this.addName(newParent, newName)
  }

  // ---- what is known of a directory's names ------------------------------------------------------------------------

  /** The name's entry in the last listing; ASK where that is not known, or too old; undefined: there is no such name. */
  protected find(name: string): number | undefined {
    const { contents, sb } = this
    if (contents === null || !contents.trusted) return ASK
    if (contents.listing !== null && !sb.fresh(contents.listing.readAt)) return ASK
    return contents.find(name)
  }

  /** Whether it is known that there is no such name. */
  lacks(name: string): boolean {
    return !this.sb.shared && this.find(name) === undefined
  }

  /** The directory as it is now for readers at its start, as it was for those who read on. */
  list(start: boolean): Listing | number {
    const { contents } = this
    if (contents !== null && contents.listing !== null) {
      if (!start || (contents.current && contents.trusted && !this.sb.shared)) return contents.listing
    }
    // Who lists the same directory again, because it has changed, walks nowhere.
    const above = contents?.trusted ? null : this.listedIn
    const listing = Listing.read(this, above, this.name)
    if (above !== null) this.parent!.contentsGrew()
    if (typeof listing !== 'number') this.keepContents(new Contents(listing))
    return listing
  }

  /** The listing of its parent, if somebody has just read that and seems to walk the tree. */
  private get listedIn(): Listing | null {
    const above = this.parent?.contents
    return !this.sb.shared && above?.trusted ? above.listing : null
  }
  private contentsGrew(): void {
    if (this.contents !== null) this.sb.directories.keep(this, this.contents.weight)
  }

  /** It came along with the listing of a directory above. */
  listed(listing: Listing): void {
    this.keepContents(new Contents(listing))
  }

  /** An inode was made for the directory called `name`: what is below it may change from now on. */
  known(name: string): void {
    this.contents?.listing?.takeOf(name)
  }

  protected keepContents(contents: Contents): void {
    this.contents = contents
    this.sb.directories.keep(this, contents.weight)
  }
  dropContents(): void {
    if (this.contents === null) return
    this.contents = null
    this.sb.directories.drop(this)
  }

  /** A name was made (`there`) or removed. */
  protected nameChanged(name: string, there: boolean): void {
    this.changed()
    const { contents } = this
    if (contents === null) return
    if (this.sb.shared || contents.weight > MAX_NAMES) {
      this.dropContents()
      return
    }
    if (there) contents.add(name)
    else contents.remove(name)
    this.sb.directories.keep(this, contents.weight)
  }

  /** The host has changed its attributes in passing. */
  protected changed(): void {
    this.stale = true
    this.unlist()
  }

  /** It is not any more what its directory's listing says. */
  unlist(): void {
    this.parent?.contents?.ask(this.name)
  }
}
