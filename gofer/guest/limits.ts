/**
 * How many descriptors a guest may hold through us. Its kernel keeps a fid, so we a descriptor, for each name in its
 * dentry cache: hence as many as the host lets us have, up to a bound that keeps one container from filling the host's
 * table of open files.
 */
import { readFileSync } from 'node:fs'
import { raw } from '../../native/host.ts'

/** Node's, the mounts', the sockets'. */
const RESERVED = 1024
const RLIMIT_NOFILE = 7

/** prlimit64(2) of this process: struct rlimit64 in, out, or 0. */
function rlimit(set: BigUint64Array | null, get: BigUint64Array | null): number {
  return raw.LLPP(302, 0, RLIMIT_NOFILE, set, get, 0, 0)
}

const left = (limit: bigint): number => Math.max(0, Number(limit) - RESERVED)

/** Raises the limit as far as `wanted` descriptors for guests need it; how many they can have. */
export function raiseDescriptorLimit(wanted: number): number {
  const limit = new BigUint64Array(2)
  if (rlimit(null, limit) < 0) return 0
  const most = BigInt(readFileSync('/proc/sys/fs/nr_open', 'latin1'))
  const needed = BigInt(wanted + RESERVED)
  const target = needed < most ? needed : most
  // Above the hard limit only as root.
  for (const max of [target > limit[1]! ? target : limit[1]!, limit[1]!]) {
    const soft = target < max ? target : max
    if (rlimit(new BigUint64Array([soft, max]), null) === 0) return left(soft)
  }
  return left(limit[0]!)
}
