/**
 * Reads a bundle's config.json. Errors name file, field and reason; fields that are accepted but have no effect here
 * are collected as warnings for the log.
 */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { CliError } from '../errors.ts'
import { type Config, configShape, type Process, processShape, type Resources, resourcesShape } from './oci.ts'
import { refuseUnsupported, refuseUnsupportedProcess } from './refuse.ts'
import { type Checker, ShapeError } from './shape.ts'

export interface LoadedSpec {
  config: Config
  process: Process
  /** Absolute. */
  bundle: string
  rootfs: string
  warnings: string[]
}

export function parse<T>(text: string, file: string, checker: Checker<T>, warnings: string[]): T {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (error) {
    throw new CliError(`${file}: not JSON: ${(error as Error).message}`)
  }
  try {
    return checker(json, '', { unknown: (at) => warnings.push(`${file}: ${at}: unknown field, ignored`) })
  } catch (error) {
    if (error instanceof ShapeError) throw new CliError(`${file}: ${error.message}`)
    throw error
  }
}

export function readText(path: string, shown: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new CliError(`${shown}: ${(error as NodeJS.ErrnoException).code === 'ENOENT' ? 'no such file' : error}`)
  }
}

export function loadBundle(bundleDir: string, configName = 'config.json'): LoadedSpec {
  const bundle = resolve(bundleDir)
  const warnings: string[] = []
  const file = join(bundle, configName)
  const config = parse(readText(file, file), file, configShape, warnings)
  const refuse = (at: string, why: string): never => {
    throw new CliError(`${file}: ${at}: ${why}`)
  }
  if (!/^1\.\d+\.\d+/.test(config.ociVersion)) refuse('ociVersion', `"${config.ociVersion}" is not a 1.x.y version`)
  if (!config.root) refuse('root', 'is required')
  if (!config.process) refuse('process', 'is required')
  const process = config.process!
  checkProcess(process, 'process', refuse)
  refuseUnsupported(config, refuse, (at, why) => warnings.push(`${file}: ${at}: ${why}`))
  return { config, process, bundle, rootfs: resolve(bundle, config.root!.path), warnings }
}

function checkProcess(process: Process, at: string, refuse: (at: string, why: string) => never): void {
  const under = at ? `${at}.` : ''
  if (process.args.length === 0) refuse(`${under}args`, 'at least one argument is required')
  if (process.args[0] === '') refuse(`${under}args[0]`, 'is empty')
  if (!process.cwd.startsWith('/')) refuse(`${under}cwd`, 'is not an absolute path')
  process.env.forEach((e, i) => {
    if (!e.includes('=')) refuse(`${under}env[${i}]`, `"${e}" is not NAME=VALUE`)
  })
}

/** The document of `exec --process`. */
export function loadProcess(path: string): { process: Process; warnings: string[] } {
  const warnings: string[] = []
  const process = parse(readText(path, path), path, processShape, warnings)
  const refuse = (at: string, why: string): never => {
    throw new CliError(`${path}: ${at}: ${why}`)
  }
  checkProcess(process, '', refuse)
  refuseUnsupportedProcess(process, '', (at, why) => warnings.push(`${path}: ${at}: ${why}`))
  return { process, warnings }
}

export function parseResources(text: string, file: string): { resources: Resources; warnings: string[] } {
  const warnings: string[] = []
  return { resources: parse(text, file, resourcesShape, warnings), warnings }
}
