/** Errors that are the user's to read: printed as one line, without a stack. Everything else is a bug of ours. */
export class CliError extends Error {}

/** Exit code of every failure of the runtime itself, as opposed to the container's own code. */
export const RUNTIME_FAILURE = 128

export function doesNotExist(id: string): CliError {
  return new CliError(`container "${id}" does not exist`)
}
