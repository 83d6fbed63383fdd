/**
 * --strace: one line per guest call in the format of strace(1) -f, written when the call returns; a call that waits
 * shows as '<unfinished ...>' and '<... resumed>'.
 *
 * Must not change the call, and never throws: whatever the guest passes, the worst outcome is a line with bare numbers.
 */

import { write } from '../../native/host.ts'
import { ERRNO_NAMES } from '../abi/errno.ts'
import type { Tracer } from '../kernel/kernel.ts'
import { BLOCK, NO_RESULT } from '../kernel/sysret.ts'
import { DEAD, type Task } from '../kernel/task.ts'
import { type Argument, parseSignature } from './arguments.ts'
import { hex } from './flags.ts'
import { STRERROR } from './strerror.ts'

/** What the tracer needs of a line of the system call table. */
export interface TracedCall {
  readonly name: string
  readonly signature: string
}

/** Where '= result' begins (strace -a 40). */
const RESULT_COLUMN = 40
/** '[pid 12345] ', which counts. */
const PREFIX_WIDTH = 12

const RESTARTS: Record<number, string> = {
  512: '? ERESTARTSYS (To be restarted if SA_RESTART is set)',
  513: '? ERESTARTNOINTR (To be restarted)',
  514: '? ERESTARTNOHAND (To be restarted if no handler)',
  516: '? ERESTART_RESTARTBLOCK (Interrupted by signal)',
}
/** Calls whose result is an address. */
const ADDRESS_RESULTS = new Set(['mmap', 'brk', 'mremap', 'shmat'])
const NEVER_RETURN = new Set(['exit', 'exit_group'])

interface Pending {
  /** Pid and name as of the entry: execve may change both. */
  tid: number
  name: string
  call: Parsed | null
  /** What is known before the call: arguments up to the first output. */
  head: string
  /** Further inputs behind an output, read before the call may change them. */
  inputs: (string | null | undefined)[]
  blocked: boolean
}

interface Parsed {
  readonly name: string
  readonly arguments: readonly Argument[]
}

export class StraceTracer implements Tracer {
  private readonly fd: number
  private readonly table: readonly (TracedCall | undefined)[]
  private readonly parsed: (Parsed | undefined)[] = []
  private readonly pending = new WeakMap<Task, Pending>()

  /** `table` is indexed by number. Lines go to `fd`. */
  constructor(fd: number, table: readonly (TracedCall | undefined)[]) {
    this.fd = fd
    this.table = table
  }

  enter(t: Task): void {
    try {
      this.pending.set(t, this.begin(t))
    } catch {
      this.pending.delete(t)
    }
  }

  leave(t: Task, ret: number): void {
    try {
      const p = this.pending.get(t)
      if (p === undefined) return
      if (ret === BLOCK) {
        if (!p.blocked) {
          p.blocked = true
          this.line(p.tid, `${p.head} <unfinished ...>`)
        }
        return
      }
      this.pending.delete(t)
      this.end(t, p, ret)
    } catch {
      this.pending.delete(t)
    }
  }

  private callOf(nr: number): Parsed | null {
    const have = this.parsed[nr]
    if (have !== undefined) return have
    const call = nr >= 0 ? this.table[nr] : undefined
    if (call === undefined) return null
    const made = { name: call.name, arguments: parseSignature(call.signature) }
    this.parsed[nr] = made
    return made
  }

  private begin(t: Task): Pending {
    const call = this.callOf(t.sysno)
    const name = call === null ? `syscall_${hex(t.sysno >>> 0)}` : call.name
    const inputs: (string | null | undefined)[] = []
    const head: string[] = []
    let headOpen = true
    const list = call === null ? [] : call.arguments
    list.forEach((arg, i) => {
      const shown = arg.output ? undefined : arg.show(t, i, -1)
      inputs.push(shown)
      if (arg.output) headOpen = false
      if (headOpen && typeof shown === 'string') head.push(shown)
    })
    if (call === null) for (let i = 0; i < 6; i++) head.push(hex(t.argPtr(i)))
    const text = `${name}(${head.join(', ')}${headOpen || head.length === 0 ? '' : ', '}`
    const pending = { tid: t.tid, name, call, head: text, inputs, blocked: false }
    // These do not come back: show them while there is somebody to show.
    if (NEVER_RETURN.has(name)) {
      this.line(t.tid, this.aligned(`${text})`, '?'))
    }
    return pending
  }

  private end(t: Task, p: Pending, ret: number): void {
    if (NEVER_RETURN.has(p.name)) return
    if (p.name === 'rt_sigreturn') {
      this.line(p.tid, this.aligned(`${p.name}()`, ret === NO_RESULT ? '0' : this.result(p.name, ret)))
      return
    }
    const gone = t.state === DEAD
    const rest = p.blocked ? `<... ${p.name} resumed>` : p.head
    const parts: string[] = []
    if (p.call !== null) {
      const list = p.call.arguments
      const first = list.findIndex((a) => a.output)
      for (let i = first < 0 ? list.length : first; i < list.length; i++) {
        const shown = list[i]!.output ? (gone ? hex(t.argPtr(i)) : list[i]!.show(t, i, ret)) : p.inputs[i]
        if (typeof shown === 'string') parts.push(shown)
      }
    }
    const text = `${rest}${parts.join(', ')})`
    this.line(p.tid, this.aligned(text, gone ? '?' : this.result(p.name, ret)))
  }

  private result(name: string, ret: number): string {
    if (ret === NO_RESULT) return '0'
    if (ret >= 0) return ADDRESS_RESULTS.has(name) ? hex(ret) : String(ret)
    const restart = RESTARTS[-ret]
    if (restart !== undefined) return restart
    const errno = ERRNO_NAMES[-ret]
    return errno === undefined ? String(ret) : `-1 ${errno} (${STRERROR[-ret] ?? errno})`
  }

  private aligned(text: string, result: string): string {
    return `${text.padEnd(RESULT_COLUMN - 1 - PREFIX_WIDTH)} = ${result}`
  }

  /** At once: a trace that ends before the interesting call is worth little. */
  private line(tid: number, text: string): void {
    const bytes = Buffer.from(`[pid ${String(tid).padStart(5)}] ${text}\n`, 'latin1')
    for (let at = 0; at < bytes.length; ) {
      const n = write(this.fd, bytes.subarray(at), bytes.length - at)
      if (n <= 0) return
      at += n
    }
  }
}
