/**
 * How many descriptors a guest may hold through us. Its kernel keeps a fid, so we a descriptor, for each name in its
 * dentry cache: hence as many as the host lets us have, up to a bound that keeps one container from filling the host's
 * table of open files.
 */
import { readFileSync } from 'node:fs'
import { raw } from '../../native/host.ts'

const MAX_DESCRIPTORS = 131_072
/** Node's, the mounts', the sockets'. */
const RESERVED = 1024
const RLIMIT_NOFILE = 7

/** prlimit64(2) of this process: struct rlimit64 in, out, or 0. */
function rlimit(set: BigUint64Array | null, get: BigUint64Array | null): number {
  return raw.LLPP(302, 0, RLIMIT_NOFILE, set, get, 0, 0)
}

/** Raises the limit as far as it goes; how many descriptors are left for guests. */
export function raiseDescriptorLimit(): number {
  const limit = new BigUint64Array(2)
  if (rlimit(null, limit) < 0) return 0
  const most = BigInt(readFileSync('/proc/sys/fs/nr_open', 'latin1'))
  const wanted = BigInt(MAX_DESCRIPTORS + RESERVED)
  const target = wanted < most ? wanted : most
  // Above the hard limit only as root.
  for (const max of [target > limit[1]! ? target : limit[1]!, limit[1]!]) {
    const soft = target < max ? target : max
    if (rlimit(new BigUint64Array([soft, max]), null) === 0) return Math.max(0, Number(soft) - RESERVED)
  }
  return Math.max(0, Number(limit[0]) - RESERVED)
}
