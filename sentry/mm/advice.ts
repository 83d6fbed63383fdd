/** madvise(2): which advice means what here. */

export const NATIVE = 1
const FORK_RULE = 2
export const IGNORED = 3
export const MADV_DONTFORK = 10
export const MADV_DOFORK = 11
export const MADV_WIPEONFORK = 18
export const MADV_POPULATE_WRITE = 23
/** What each advice does here: carried out by the host, remembered for fork, or accepted without effect. */
export const ADVICE: Record<number, number> = {
  0: IGNORED,
  1: IGNORED,
  2: IGNORED,
  3: NATIVE,
  4: NATIVE,
  8: NATIVE,
  9: NATIVE,
  10: FORK_RULE,
  11: FORK_RULE,
  12: IGNORED,
  13: IGNORED,
  14: NATIVE,
  15: NATIVE,
  16: IGNORED,
  17: IGNORED,
  18: FORK_RULE,
  19: FORK_RULE,
  20: NATIVE,
  21: NATIVE,
  22: NATIVE,
  23: NATIVE,
}
