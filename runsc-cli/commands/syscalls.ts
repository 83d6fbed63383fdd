/**
 * syscalls: the support table. A bundle of its own (dist/syscalls.cjs), because the table brings the whole kernel with
 * it, which no other command should have to parse.
 */
import { SYSCALLS } from '../../syscalls/table.ts'
import { table } from '../table.ts'

const rows = SYSCALLS.map(({ nr, name, support, note }) => ({ nr, name, support, note: note ?? '' }))
if (process.argv[2] === 'json') {
  process.stdout.write(`${JSON.stringify(rows, null, 2)}\n`)
} else {
  process.stdout.write(
    table([['NUMBER', 'NAME', 'SUPPORT', 'NOTE'], ...rows.map((r) => [String(r.nr), r.name, r.support, r.note])]),
  )
}
