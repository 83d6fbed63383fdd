/**
 * Process groups and sessions (job control; setpgid(2), setsid(2), credentials(7)).
 *
 * A session owns at most one controlling terminal, a terminal at most one session; the terminal object
 * (fs/tty/tty.ts) holds the foreground process group.
 */
import type { ThreadGroup } from './thread-group.ts'

export class Session {
  readonly sid: number
  leader: ThreadGroup | null
  /** The controlling terminal: a Tty of fs/tty, opaque here. */
  tty: ControllingTty | null = null
  /** The foreground group of a terminal that hung up: it hears SIGHUP when the leader dies (Linux: tty_old_pgrp). */
  hungUpForeground: ProcessGroup | null = null
  readonly groups: ProcessGroup[] = []

  constructor(sid: number, leader: ThreadGroup | null) {
    this.sid = sid
    this.leader = leader
  }
}

/** What the kernel needs of a terminal. */
export interface ControllingTty {
  /** tty_nr of /proc/PID/stat. */
  readonly deviceNumber: number
  foreground: ProcessGroup | null
  session: Session | null
  /** The session leader died: hang up. */
  disassociate(): void
}

export class ProcessGroup {
  readonly pgid: number
  readonly session: Session
  readonly members: ThreadGroup[] = []

  constructor(pgid: number, session: Session) {
    this.pgid = pgid
    this.session = session
    session.groups.push(this)
  }
}
