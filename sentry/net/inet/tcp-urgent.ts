/**
 * TCP urgent data (MSG_OOB): the last byte of an urgent send is marked, readable out of band, and announced by SIGURG's
 * poll events. One byte at a time, as in every TCP.
 */
interface UrgentReceiver {
  urgent: number
  urgentMark: number
  readonly receivedLength: number
  wakeUrgent(): void
  lastByte(): number
}

/** The byte that was appended last becomes the urgent one. */
export function sendUrgent(to: UrgentReceiver): void {
  to.urgentMark = to.receivedLength - 1
  to.urgent = to.lastByte()
  to.wakeUrgent()
}
