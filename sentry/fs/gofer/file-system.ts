/**
 * Joins the gofer's mounts to the kernel: says hello, makes a super block for each, and ends the container when the
 * gofer dies.
 */
import type { GoferClient } from './client.ts'
import { IdleFiles } from './idle-files.ts'
import { GoferSuperBlock } from './super-block.ts'

/** The gofer's mounts by id, each as a super block to be mounted by the caller; or −errno. */
export function connectGofer(client: GoferClient): Map<number, GoferSuperBlock> | number {
  const mounts = client.hello()
  if (typeof mounts === 'number') return mounts
  const idle = new IdleFiles()
  return new Map(mounts.map((mount) => [mount.id, new GoferSuperBlock(client, mount, idle)]))
}
