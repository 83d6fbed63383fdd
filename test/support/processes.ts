/** What runs on the host. */
import { existsSync, globSync, readFileSync } from 'node:fs'

/** Children of `pid` whose command line starts so. */
export function children(pid: number, name: string): number[] {
  const out: number[] = []
  for (const file of globSync('/proc/[0-9]*/stat')) {
    try {
      const text = readFileSync(file, 'latin1')
      const ppid = Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[1])
      const own = Number(file.split('/')[2])
      if (ppid === pid && readFileSync(`/proc/${own}/cmdline`, 'latin1').startsWith(name)) out.push(own)
    } catch {}
  }
  return out
}

export const alive = (pid: number): boolean =>
  existsSync(`/proc/${pid}`) && !/^State:\sZ/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'))
