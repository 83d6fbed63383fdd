/**
 * The limits of message queues that /proc/sys/fs/mqueue steers (mq_overview(7), Linux: ipc/mq_sysctl.c). One set: the
 * container has one IPC namespace. A queue keeps the limits that it was made with.
 */
import { EINVAL } from '../abi/errno.ts'
import { registerSysctl } from '../fs/proc/sysctl.ts'

export const HARD_MSGMAX = 65536
export const HARD_MSGSIZEMAX = 16 * 1024 * 1024

export const mqueueLimits = {
  /** Of a caller without CAP_SYS_RESOURCE; the hard ones are for the others. */
  msg_max: 10,
  msgsize_max: 8192,
  /** Of a queue that is made without attributes. */
  msg_default: 10,
  msgsize_default: 8192,
  /** Queues that there may be. */
  queues_max: 256,
}

function limit(name: keyof typeof mqueueLimits, min: number, max: number): void {
  registerSysctl(`fs/mqueue/${name}`, 0o644, {
    get: () => String(mqueueLimits[name]),
    set(_kernel, text) {
      if (!/^\s*\d{1,10}\s*$/.test(text) || Number(text) < min || Number(text) > max) return -EINVAL
      mqueueLimits[name] = Number(text)
      return 0
    },
  })
}
limit('msg_max', 1, HARD_MSGMAX)
limit('msgsize_max', 128, HARD_MSGSIZEMAX)
limit('msg_default', 1, HARD_MSGMAX)
limit('msgsize_default', 128, HARD_MSGSIZEMAX)
limit('queues_max', 0, 2 ** 31 - 1)
