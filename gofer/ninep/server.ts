/**
 * The 9P front end of a gofer: its messages and what its sessions share. The loop is guest/connection.ts.
 */
import type { Begin } from '../guest/connection.ts'
import { type Descriptors, exportMount } from '../guest/descriptors.ts'
import { statFd } from '../guest/scratch.ts'
import type { Resolver, ServedMount } from '../resolve.ts'
import * as attributes from './attributes.ts'
import * as files from './files.ts'
import { Handle } from './handles.ts'
import * as locks from './locks.ts'
import * as names from './names.ts'
import { type Exports, type Handler, Session } from './session.ts'
import * as walks from './walks.ts'
import * as wire from './wire.ts'
import * as xattrs from './xattrs.ts'

function handlers(): (Handler | undefined)[] {
  const h: (Handler | undefined)[] = []
  h[wire.TVERSION] = walks.version
  h[wire.TATTACH] = walks.attach
  h[wire.TWALK] = walks.walk
  h[wire.TCLUNK] = walks.clunk
  h[wire.TFLUSH] = walks.flush
  h[wire.TLOPEN] = files.lopen
  h[wire.TLCREATE] = files.lcreate
  h[wire.TREAD] = files.read
  h[wire.TWRITE] = files.write
  h[wire.TREADDIR] = files.readdir
  h[wire.TFSYNC] = files.fsync
  h[wire.TGETATTR] = attributes.getattr
  h[wire.TSETATTR] = attributes.setattr
  h[wire.TSTATFS] = attributes.statfs
  h[wire.TMKDIR] = names.mkdir
  h[wire.TMKNOD] = names.mknod
  h[wire.TSYMLINK] = names.symlink
  h[wire.TLINK] = names.link
  h[wire.TUNLINKAT] = names.unlinkatMessage
  h[wire.TRENAMEAT] = names.renameat
  h[wire.TRENAME] = names.rename
  h[wire.TREMOVE] = names.remove
  h[wire.TREADLINK] = names.readlink
  h[wire.TXATTRWALK] = xattrs.xattrwalk
  h[wire.TXATTRCREATE] = xattrs.xattrcreate
  h[wire.TLOCK] = locks.lock
  h[wire.TGETLOCK] = locks.getlock
  return h
}

/** What sessions serve. The working directory is /proc/self/fd already. */
export function makeExports(mounts: readonly ServedMount[], resolver: Resolver, descriptors: Descriptors): Exports {
  const roots = new Map<number, Handle>()
  for (const mount of mounts) {
    if (mount === undefined) continue
    const exported = exportMount(mount)
    statFd(mount.rootFd)
    roots.set(mount.id, new Handle(mount.rootFd, exported, descriptors))
  }
  return { resolver, descriptors, roots, handlers: handlers() }
}

export const beginNinep =
  (shared: Exports): Begin =>
  (input, output) =>
    new Session(shared, input, output)
