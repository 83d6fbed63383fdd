/** What a foreground command passes on to its sandbox: its signals and its terminal's sizes. */
import { ControlClient } from '../../sentry/control/client.ts'
import type { Request } from '../../sentry/control/protocol.ts'
import { forwardSignals } from '../signals.ts'
import type { BorrowedTerminal } from './console.ts'
import type { Sandbox } from './spawn.ts'

export function follow(sandbox: Sandbox, terminal: BorrowedTerminal | null): void {
  let owner: ControlClient | null = null
  const send = (request: Request): void => {
    // Made with the first request, which few containers ever get.
    owner ??= ControlClient.fromFd(sandbox.owner)
    owner.request(request).catch(() => {})
  }
  forwardSignals((signal) => send({ op: 'signal', pid: 1, signal, target: 'process' }))
  terminal?.onResize((rows, cols) => send({ op: 'resize', pid: 1, rows, cols }))
}
