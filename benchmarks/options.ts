/** The command line of `npm run bench`. */
import { availableParallelism } from 'node:os'
import { Command, InvalidArgumentError } from 'commander'
import { GROUPS } from './types.ts'

export interface Options {
  ways: string[]
  runtime: string[]
  groups: string[]
  rows: string[]
  rounds?: number
  quick: boolean
  busy: boolean
  priority: boolean
  realtime: boolean
  list: boolean
  json: boolean
  write: boolean
}

const list = (text: string) => text.split(',').filter(Boolean)

function groups(text: string): string[] {
  for (const name of list(text))
    if (!(GROUPS as readonly string[]).includes(name)) throw new InvalidArgumentError(`one of ${GROUPS.join(', ')}`)
  return list(text)
}

function count(text: string): number {
  const number = Number(text)
  if (!Number.isInteger(number) || number < 1 || number > 1000) throw new InvalidArgumentError('1 to 1000')
  return number
}

export function parseOptions(argv: string[]): Options {
  return new Command('npm run bench --')
    .description(
      'Measures tssandbox beside native, runc, crun and runsc in one run: round after round, every way in each. ' +
        'Needs root. Prints a table and the targets, and writes benchmarks/RESULTS.md and benchmarks/results/.',
    )
    .option('-w, --ways <names>', 'only these ways; a part of a name will do: native,runsc,tssandbox-systrap', list, [])
    .option(
      '--runtime <name=command>',
      'measure another OCI runtime too (repeatable)',
      (v, all: string[]) => [...all, v],
      [],
    )
    .option('-g, --groups <names>', `only these groups of rows: ${GROUPS.join(',')}`, groups, [])
    .option('-r, --rows <names>', 'only these rows; `compile*` chooses all that begin so', list, [])
    .option('-n, --rounds <n>', 'rounds (default: 5, with --quick 2)', count)
    .option('-q, --quick', 'for people in a hurry: micro, start, exec and idle rows, two rounds, fewer samples', false)
    .option('--busy', `keep ${availableParallelism()} cores busy with other work meanwhile`, false)
    .option(
      '--priority',
      'nice -20 and the largest CPU weight, so that other work on the machine hardly disturbs',
      false,
    )
    .option('--realtime', 'chrt -f 50: as on an idle machine, for short runs, since other work stands still', false)
    .option('--no-write', 'only print; change no file')
    .option('--json', 'print the report as JSON instead of tables', false)
    .option('-l, --list', 'list rows and ways', false)
    .addHelpText(
      'after',
      `
Examples:
  npm run bench -- --quick
  npm run bench -- -r getppid,stat -w native,systrap -n 3     two rows of three ways within seconds
  npm run bench -- -g macro -w runc,runsc-ptrace,tssandbox
A run with chosen ways, rows or groups does not change RESULTS.md, only results/.`,
    )
    .parse(argv, { from: 'user' })
    .opts<Options>()
}
