/** state ID: the OCI state document. */

import type { Invocation } from '../command.ts'
import { ContainerDirectory } from '../container/directory.ts'
import { ociState, statusOf } from '../container/status.ts'
import { doesNotExist } from '../errors.ts'

export async function body({ args, globals }: Invocation<object>): Promise<number> {
  const directory = new ContainerDirectory(globals.root, args[0]!)
  const state = directory.read()
  if (!state) throw doesNotExist(directory.id)
  const document = {
    ...ociState(state, await statusOf(directory, state)),
    rootfs: state.rootfs,
    created: state.created,
    owner: state.owner,
  }
  process.stdout.write(`${JSON.stringify(document, null, 2)}\n`)
  return 0
}
