/**
 * Guest-visible strings are latin1 byte strings in the sentry; the CLI's own strings (JSON, argv, paths) are Unicode.
 */

export const toBytes = (s: string): string => Buffer.from(s, 'utf8').toString('latin1')
export const fromBytes = (s: string): string => Buffer.from(s, 'latin1').toString('utf8')
