/**
 * Names of the system (uname(2), uts namespace). Latin1 byte strings of at most 64 bytes.
 */
export const UTS_SYSNAME = 'Linux'
export const UTS_RELEASE = '6.12.0-tssandbox'
export const UTS_VERSION = '#1 SMP PREEMPT_DYNAMIC tssandbox 2026-11-22'
export const UTS_MACHINE = 'x86_64'

export class Uts {
  nodename = 'localhost'
  domainname = '(none)'
}
