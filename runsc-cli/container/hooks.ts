/** OCI hooks: host programs that get the container's state as JSON on stdin. */
import { existsSync } from 'node:fs'
import { basename } from 'node:path'
import { CliError } from '../errors.ts'
import type { Hook, Hooks } from '../spec/oci.ts'

export interface OciState {
  ociVersion: string
  id: string
  status: string
  pid: number
  bundle: string
  annotations?: Record<string, string>
}

/** What spec version the state documents and `features` speak. */
export const OCI_VERSION = '1.2.0'

function runHook(hook: Hook, state: OciState): Promise<void> {
  return new Promise((resolve, reject) => {
    const args = hook.args.length ? hook.args : [hook.path]
    const { spawn } = process.getBuiltinModule('node:child_process')
    const child = spawn(hook.path, args.slice(1), {
      argv0: args[0],
      env: Object.fromEntries(hook.env.map((e) => [e.slice(0, e.indexOf('=')), e.slice(e.indexOf('=') + 1)])),
      cwd: existsSync(state.bundle) ? state.bundle : '/',
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    const output: Buffer[] = []
    const name = basename(hook.path)
    let timedOut = false
    const timer = hook.timeout
      ? setTimeout(() => {
          timedOut = true
          child.kill('SIGKILL')
        }, hook.timeout * 1000)
      : undefined
    child.stdout.on('data', () => {})
    child.stderr.on('data', (chunk: Buffer) => output.push(chunk))
    child.stdin.on('error', () => {})
    child.stdin.end(JSON.stringify(state))
    child.on('error', (error) => {
      clearTimeout(timer)
      reject(new CliError(`hook ${name}: ${error.message}`))
    })
    child.on('exit', (code, signal) => {
      clearTimeout(timer)
      const said = Buffer.concat(output).toString().trim().slice(0, 4096)
      if (timedOut) reject(new CliError(`hook ${name}: timed out after ${hook.timeout} s`))
      else if (code !== 0)
        reject(
          new CliError(`hook ${name}: ${signal ? `signal ${signal}` : `exit status ${code}`}${said && `: ${said}`}`),
        )
      else resolve()
    })
  })
}

/** In order; the first that fails ends it with an error that says which kind and number it was. */
export async function runHooks(kind: keyof Hooks, hooks: Hook[], state: OciState): Promise<void> {
  for (const [i, hook] of hooks.entries()) {
    try {
      await runHook(hook, state)
    } catch (error) {
      throw new CliError(`error running ${kind} hook #${i}: ${(error as Error).message}`)
    }
  }
}

/** For kinds whose failure must not stop anything: every hook runs, failures come back as warnings. */
export async function runHooksAnyway(kind: keyof Hooks, hooks: Hook[], state: OciState): Promise<string[]> {
  const warnings: string[] = []
  for (const hook of hooks) await runHooks(kind, [hook], state).catch((e: Error) => warnings.push(e.message))
  return warnings
}
