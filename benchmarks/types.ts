/** What the parts of the benchmark share. */

export const GROUPS = ['micro', 'macro', 'scale', 'idle'] as const
export type Group = (typeof GROUPS)[number]

/** One line of the table: one kind of work. */
export interface Row {
  /** As it is chosen on the command line. */
  name: string
  group: Group
  title: string
  unit: string
  better: 'lower' | 'higher'
  /** After so many seconds it counts as hanging. */
  limit: number
}

/** What was measured of one row in one way, in the order of the rounds; null is a round without a figure. */
export type Values = (number | null)[]

export interface Report {
  date: string
  machine: string
  commit: string
  /** How it was measured: rounds, options, load before. */
  conditions: string
  busy: boolean
  rows: Row[]
  ways: { name: string; version: string }[]
  /** Ways that could not be measured, and why. */
  missing: { name: string; reason: string }[]
  /** way → row → values. */
  values: Record<string, Record<string, Values>>
  failures: { way: string; row: string; reason: string }[]
}
