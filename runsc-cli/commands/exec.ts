/**
 * exec ID: a further process in a running container. With --detach a copy of this program (exec-stand-in) stays as the
 * process's representative on the host: callers wait for its pid, signal it, and read its exit code.
 */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { close, dup3 } from '../../native/host.ts'
import { distDir } from '../../native/library.ts'
import { getWindowSize, takeTerminal } from '../../native/pty.ts'
import { spawnProcess } from '../../native/spawn.ts'
import { type ControlClient, ControlGone } from '../../sentry/control/client.ts'
import type { ProcessSpec } from '../../sentry/control/protocol.ts'
import { toBytes } from '../bytes.ts'
import type { Invocation } from '../command.ts'
import { connectRunning } from '../container/connect.ts'
import { borrowTerminal, consoleForSocket } from '../container/console.ts'
import { check, document, pipe, readLine } from '../container/descriptors.ts'
import { writePidFile } from '../container/directory.ts'
import { CliError } from '../errors.ts'
import { forwardSignals } from '../signals.ts'
import { capabilityNumber } from '../spec/capabilities.ts'
import { loadProcess } from '../spec/load.ts'
import { processSpec } from '../spec/process.ts'

export interface ExecOptions {
  process: string
  detach: boolean
  pidFile: string
  consoleSocket: string
  tty: boolean
  env: string[]
  cwd: string
  user: string
  additionalGids: string[]
  cap: string[]
  noNewPrivs: boolean
  ignorePaused: boolean
}

/** What the stand-in is told, on descriptor 4; it answers on 3. */
interface StandInOrder {
  process: ProcessSpec
  consoleSocket: string
  pidFile: string
}

export async function body({ args, options, globals, log }: Invocation<ExecOptions>): Promise<number> {
  const { client, state } = await connectRunning(globals.root, args[0]!)
  if (!options.ignorePaused && (await client.state()).state === 'paused')
    throw new CliError('cannot exec in a paused container (use --ignore-paused to override)')
  let process_: ProcessSpec
  if (options.process) {
    const loaded = loadProcess(options.process)
    for (const warning of loaded.warnings) log.warn(warning)
    process_ = processSpec(loaded.process, `${options.process}: `)
  } else {
    if (args.length < 2) throw new CliError('exec: a command or --process is required')
    process_ = fromFlags(state.process, args.slice(1), options)
  }
  if (options.tty) process_.terminal = true
  if (options.consoleSocket && !process_.terminal) throw new CliError('--console-socket: the process has no terminal')
  if (options.detach) {
    client.close()
    if (process_.terminal && !options.consoleSocket)
      throw new CliError('cannot allocate tty if tssandbox will detach without setting console socket')
    const order = { process: process_, consoleSocket: options.consoleSocket, pidFile: options.pidFile }
    return detach(order, globals.root, args[0]!)
  }

  let fds = [0, 1, 2]
  const terminal = process_.terminal && !options.consoleSocket ? borrowTerminal(0) : null
  if (terminal) {
    if (!process_.consoleSize.rows) process_.consoleSize = terminal.size
    fds = [terminal.fd]
  } else if (process_.terminal) {
    if (!options.consoleSocket) throw new CliError('process.terminal is true, but stdin is not a terminal')
    fds = [consoleForSocket(options.consoleSocket, process_.consoleSize)]
  }
  const pid = await client.exec(process_, false, fds)
  if (options.pidFile) writePidFile(options.pidFile, process.pid)
  const ignore = () => {}
  const signals = (await connectRunning(globals.root, args[0]!)).client
  forwardSignals((signal) => signals.request({ op: 'signal', pid, signal, target: 'process' }).catch(ignore))
  terminal?.onResize((rows, cols) => signals.request({ op: 'resize', pid, rows, cols }).catch(ignore))
  const status = await exitOf(client, pid)
  terminal?.restore()
  return status
}

/** The container ending takes its processes with it, by SIGKILL. */
async function exitOf(client: ControlClient, pid: number): Promise<number> {
  try {
    return await client.wait(pid)
  } catch (error) {
    if (error instanceof ControlGone) return 137
    throw error
  }
}

function fromFlags(init: ProcessSpec, args: string[], options: ExecOptions): ProcessSpec {
  const spec: ProcessSpec = {
    ...init,
    args: args.map(toBytes),
    env: [...init.env, ...options.env.map(toBytes)],
    terminal: options.tty,
    consoleSize: { rows: 0, cols: 0 },
  }
  if (options.cwd) spec.cwd = toBytes(options.cwd)
  if (!spec.cwd.startsWith('/')) throw new CliError(`--cwd: "${options.cwd}" is not an absolute path`)
  if (options.noNewPrivs) spec.noNewPrivileges = true
  if (options.user) {
    const m = /^(\d+)(?::(\d+))?$/.exec(options.user)
    if (!m) throw new CliError(`--user: "${options.user}" is not UID[:GID]`)
    spec.uid = Number(m[1])
    if (m[2]) spec.gid = Number(m[2])
  }
  if (options.additionalGids.length) spec.additionalGids = options.additionalGids.map(Number)
  if (options.cap.length) {
    const more = options.cap.map((name) => {
      const n = capabilityNumber(name)
      if (n < 0) throw new CliError(`--cap: unknown capability "${name}"`)
      return n
    })
    const add = (set: number[]) => [...new Set([...set, ...more])].sort((a, b) => a - b)
    const { bounding, effective, inheritable, permitted, ambient } = init.capabilities
    spec.capabilities = {
      bounding: add(bounding),
      effective: add(effective),
      permitted: add(permitted),
      inheritable,
      ambient,
    }
  }
  return spec
}

/** Starts the stand-in and waits until its process runs, or did not come to. */
async function detach(order: StandInOrder, root: string, id: string): Promise<number> {
  const [answerHere, answerThere] = pipe()
  const orderFd = document('exec-order', JSON.stringify(order))
  const command = [process.execPath, ...process.execArgv, process.argv[1]!, '--root', root, 'exec-stand-in', id]
  const launch = [join(distDir(), 'launch'), '--setsid', '--keep-fd', '3-4', '--', ...command]
  check(spawnProcess(launch, [0, 1, 2, answerThere, orderFd]), 'cannot start a stand-in')
  close(answerThere)
  close(orderFd)
  const answer = await readLine(answerHere)
  if (answer !== 'ok') throw new CliError(answer || 'the process standing for the exec died')
  return 0
}

export async function standIn({ args, globals }: Invocation<object>): Promise<number> {
  const order = JSON.parse(readFileSync(4, 'utf8')) as StandInOrder
  closeSync(4)
  const answer = (text: string) => {
    writeSync(3, text)
    closeSync(3)
  }
  try {
    const { client } = await connectRunning(globals.root, args[0]!)
    const slave = order.process.terminal ? consoleForSocket(order.consoleSocket, order.process.consoleSize) : -1
    const pid = await client.exec(order.process, true, slave >= 0 ? [slave] : [0, 1, 2])
    const { client: second } = await connectRunning(globals.root, args[0]!)
    const ignore = () => {}
    forwardSignals((signal) => second.request({ op: 'signal', pid, signal, target: 'process' }).catch(ignore))
    if (slave >= 0) followSize(slave, second, pid)
    const exit = exitOf(client, pid)
    releaseStdio()
    if (order.pidFile) writePidFile(order.pidFile, process.pid)
    answer('ok')
    const status = await exit
    second.close()
    return status
  } catch (error) {
    answer((error as Error).message)
    return 128
  }
}

/** The pty's master is with Docker's shim, so a new size arrives as SIGWINCH of the controlling terminal: ours. */
function followSize(slave: number, client: ControlClient, pid: number): void {
  takeTerminal(slave)
  process.on('SIGWINCH', () => {
    client.request({ op: 'resize', pid, ...getWindowSize(slave) }).catch(() => {})
  })
}

/** Whoever reads the process's output waits for the last holder of the pipe to go: that must be the process. */
function releaseStdio(): void {
  const devNull = openSync('/dev/null', 'r+')
  for (const fd of [0, 1, 2]) dup3(devNull, fd, 0)
  close(devNull)
}
