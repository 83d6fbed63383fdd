/**
 * Writing where nobody reads: SIGPIPE for the writing task, as pipes and sockets do (Linux: send_sig(SIGPIPE, current)).
 */
import { SIGPIPE } from '../abi/signal.ts'
import { sendKernelSignal } from '../kernel/signal.ts'
import type { Task } from '../kernel/task.ts'

export function sendSigpipe(t: Task): void {
  sendKernelSignal(t, SIGPIPE)
}
