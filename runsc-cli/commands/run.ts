/** run ID: create and start; in the foreground also wait, forward signals and the terminal, and delete. */
import { phase } from '../../native/phases.ts'
import { ControlClient } from '../../sentry/control/client.ts'
import type { Invocation } from '../command.ts'
import { type BorrowedTerminal, borrowTerminal } from '../container/console.ts'
import { create } from '../container/create.ts'
import { destroy } from '../container/destroy.ts'
import { printPhases } from '../container/phases.ts'
import type { Sandbox } from '../container/spawn.ts'
import { afterStart, start } from '../container/start.ts'
import { exitStatus, forwardSignals } from '../signals.ts'
import { loadBundle } from '../spec/load.ts'
import { type CreateOptions, parsePreserveFds } from './create.ts'

export interface RunOptions extends CreateOptions {
  detach: boolean
  keep: boolean
}

export async function body({ args, options, globals, log }: Invocation<RunOptions>): Promise<number> {
  const foreground = !options.detach
  const wantsTerminal =
    foreground && !options.consoleSocket && loadBundle(options.bundle, options.config).process.terminal
  const terminal = wantsTerminal ? borrowTerminal(0) : null
  const { directory, state, sandbox, lock } = await create(
    {
      id: args[0]!,
      bundle: options.bundle,
      configName: options.config,
      pidFile: options.pidFile,
      consoleSocket: options.consoleSocket,
      preserveFds: parsePreserveFds(options.preserveFds),
      terminal,
      owned: foreground,
      startAtOnce: true,
      onSpawn: (sandbox) => foreground && follow(sandbox, terminal),
    },
    globals,
    log,
  )
  try {
    if (state.phase === 'running') await afterStart(state, log)
    else await start(directory, log)
  } catch (error) {
    await destroy(directory, state)
    lock.release()
    throw error
  }
  phase('started')
  lock.release()
  if (!foreground) {
    sandbox.sentry.unref()
    sandbox.gofer.unref()
    return 0
  }
  const { code, signal } = await sandbox.ended
  phase('sentry has ended')
  terminal?.restore()
  if (!options.keep) {
    const last = await directory.lock().catch(() => null)
    if (last) {
      for (const warning of await destroy(directory, directory.read() ?? state)) log.warn(warning)
      last.release()
    }
  }
  phase('deleted')
  printPhases(globals.debugLog, directory.id)
  return exitStatus(code, signal)
}

/** Signals and sizes of ours are the container's. */
function follow(sandbox: Sandbox, terminal: BorrowedTerminal | null): void {
  const owner = ControlClient.fromFd(sandbox.owner).unref()
  const ignore = () => {}
  forwardSignals((signal) => owner.request({ op: 'signal', pid: 1, signal, target: 'process' }).catch(ignore))
  terminal?.onResize((rows, cols) => owner.request({ op: 'resize', pid: 1, rows, cols }).catch(ignore))
}
