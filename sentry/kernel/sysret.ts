/**
 * What a system call handler returns: one number (DESIGN §11).
 *
 * ≥ 0 is a value, −1 … −4095 a negated errno as the guest sees it, −512 … −516 one of Linux's restart codes
 * (include/linux/errno.h), which the signal code turns into −EINTR or a restart before the guest resumes, and below
 * −4095 control, which never reaches the guest.
 */
export type SysRet = number

/** Restart if no handler runs, or the handler has SA_RESTART; else −EINTR. */
export const ERESTARTSYS = 512
/** Always restart. */
export const ERESTARTNOINTR = 513
/** Restart if no handler runs; else −EINTR. */
export const ERESTARTNOHAND = 514
/** As NOHAND; the call keeps its deadline across the restart (nanosleep, poll, …). */
export const ERESTART_RESTARTBLOCK = 516

/** Whether a result is one of the restart codes. */
export function isRestart(ret: number): boolean {
  return ret <= -ERESTARTSYS && ret >= -ERESTART_RESTARTBLOCK
}

/** The task waits; the handler is run again from the top when one of its wait queues, its deadline or a signal fires. */
export const BLOCK: SysRet = -5000
/** The task is gone or its registers were replaced (exit, execve, rt_sigreturn): do not store a result. */
export const NO_RESULT: SysRet = -5001
