/** POSIX timers (timer_create(2)). */
import type { ThreadGroup } from './thread-group.ts'
export function deletePosixTimers(_group: ThreadGroup): void {}
