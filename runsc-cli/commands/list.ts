/** list: containers under --root. */
import type { Invocation } from '../command.ts'
import { ContainerDirectory } from '../container/directory.ts'
import { statusOf } from '../container/status.ts'
import { table } from '../table.ts'

export interface ListOptions {
  format: 'table' | 'json' | 'text'
  quiet: boolean
}

export async function body({ options, globals }: Invocation<ListOptions>): Promise<number> {
  const rows = []
  for (const directory of ContainerDirectory.list(globals.root)) {
    try {
      const state = directory.read()
      if (!state) continue
      const status = await statusOf(directory, state)
      rows.push({
        ociVersion: state.ociVersion,
        id: state.id,
        pid: status === 'stopped' ? 0 : (state.sentry?.pid ?? 0),
        status,
        bundle: state.bundle,
        rootfs: state.rootfs,
        created: state.created,
        annotations: state.annotations,
        owner: state.owner,
      })
    } catch {
      // Deleted while we looked.
    }
  }
  if (options.quiet) process.stdout.write(rows.map((r) => `${r.id}\n`).join(''))
  else if (options.format === 'json') process.stdout.write(`${JSON.stringify(rows)}\n`)
  else
    process.stdout.write(
      table([
        ['ID', 'PID', 'STATUS', 'BUNDLE', 'CREATED', 'OWNER'],
        ...rows.map((r) => [r.id, String(r.pid), r.status, r.bundle, r.created, r.owner]),
      ]),
    )
  return 0
}
