/** Filled in by the build; Docker reads the lines of --version. */
import { OCI_VERSION } from './container/hooks.ts'

declare const BUILD_COMMIT: string | undefined

export const VERSION = '0.1.0'

export function versionText(): string {
  const commit = typeof BUILD_COMMIT === 'string' ? BUILD_COMMIT : 'unknown'
  return `tssandbox version ${VERSION}\ncommit: ${commit}\nspec: ${OCI_VERSION}`
}
