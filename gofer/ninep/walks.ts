/**
 * Messages that begin a session and move fids: version, attach, walk, clunk, flush.
 *
 * A walk takes one component at a time from the descriptor of the one before, and follows nothing: no link, no '..'.
 * So whoever renames what meanwhile, each step stays below the directory that it started from.
 */
import { closeFd, O_PATH } from '../../native/host-files.ts'
import { SCRATCH_NAME, statFd } from '../guest/scratch.ts'
import { EBADF, EINVAL, ENOENT, EOPNOTSUPP, EPROTO } from '../request.ts'
import { Fid } from './fids.ts'
import { Handle } from './handles.ts'
import type { Session } from './session.ts'
import { MAX_MSIZE, MAX_WALK, MIN_MSIZE, NO_FID, NO_UID, VERSION } from './wire.ts'
import { finishXattr } from './xattrs.ts'

export function version(s: Session): number {
  const msize = s.r.u32()
  const version = s.r.text()
  if (!s.r.complete) return -EPROTO
  if (msize < MIN_MSIZE) return -EINVAL
  s.reset()
  const known = version === VERSION
  const agreed = Math.min(msize, MAX_MSIZE)
  s.msize = known ? agreed : 0
  const answer = Buffer.from(known ? VERSION : 'unknown')
  s.w.u32(agreed).string(answer, 0, answer.length)
  return 0
}

export function attach(s: Session): number {
  const number = s.r.u32()
  const afid = s.r.u32()
  s.r.bytesAt()
  const aname = s.r.text()
  const uid = s.r.u32()
  if (!s.r.complete) return -EPROTO
  if (afid !== NO_FID) return -EOPNOTSUPP
  const refused = s.fids.refuse(number)
  if (refused !== 0) return refused
  const root = /^(0|[1-9]\d{0,4})$/.test(aname) ? s.shared.roots.get(Number(aname)) : undefined
  if (root === undefined) return -ENOENT
  const error = statFd(root.fd)
  if (error < 0) return error
  s.fids.set(number, new Fid(root.share(), uid === NO_UID ? 0 : uid))
  root.putQid(s.w)
  return 0
}

/** Holds what `name` is in a directory, a link included; then {@link statFd} was the last call. */
export function pin(s: Session, directory: Handle, name: number): Handle | number {
  const { descriptors, resolver } = s.shared
  const refused = descriptors.refuse()
  if (refused !== 0) return refused
  const fd = resolver.openName(directory.fd, name, O_PATH, 0)
  if (fd < 0) return fd
  const error = statFd(fd)
  if (error === 0) return new Handle(fd, directory.root, descriptors)
  closeFd(fd)
  return error
}

export function walk(s: Session): number {
  const { r, w } = s
  const fid = s.fids.get(r.u32())
  const number = r.u32()
  const count = r.u16()
  if (!r.ok) return -EPROTO
  if (fid === undefined || fid.xattr !== null) return -EBADF
  if (count > MAX_WALK) return -EINVAL
  const inPlace = s.fids.get(number) === fid
  // A fid that is open stays what it is.
  if (inPlace && fid.openFd >= 0 && count > 0) return -EINVAL
  const refused = inPlace ? 0 : s.fids.refuse(number)
  if (refused !== 0) return refused

  const countAt = w.pos
  w.u16(count)
  const from = fid.handle
  let current = from
  for (let i = 0; i < count; i++) {
    const name = s.takeName(SCRATCH_NAME)
    const next = r.ok ? s.badName || pin(s, current, name) : -EPROTO
    if (current !== from) current.release()
    if (typeof next === 'number') {
      if (i === 0 || !r.ok) return next
      // Rwalk with fewer qids than names: the next one failed, and the new fid is none.
      w.memory.view.setUint16(countAt, i, true)
      return 0
    }
    next.putQid(w)
    current = next
  }
  if (!r.complete) {
    if (current !== from) current.release()
    return -EPROTO
  }
  if (inPlace) {
    if (current !== from) {
      fid.handle = current
      from.release()
    }
    return 0
  }
  s.fids.set(number, new Fid(current === from ? from.share() : current, fid.uid))
  return 0
}

export function clunk(s: Session): number {
  const number = s.r.u32()
  if (!s.r.complete) return -EPROTO
  const fid = s.fids.take(number)
  if (fid === undefined) return -EBADF
  const result = finishXattr(fid)
  s.release(fid)
  return result
}

/** Messages are served in order: the one to be flushed has been answered. */
export function flush(s: Session): number {
  s.r.u16()
  return s.r.complete ? 0 : -EPROTO
}
