/**
 * A terminal (Linux: struct tty_struct): settings, window size, the session it controls, and the line discipline
 * between programs and the hardware. The hardware is the master side of a pty (pty.ts) or a host terminal (console.ts).
 */
import { SIGCONT, SIGHUP, SIGWINCH } from '../../abi/signal.ts'
import type { ControllingTty, ProcessGroup, Session } from '../../kernel/process-group.ts'
import { makeInfo } from '../../kernel/siginfo.ts'
import { sendKernelSignalToPgrp, sendToGroup } from '../../kernel/signal.ts'
import { WaitQueue } from '../../kernel/wait-queue.ts'
import {
  EPOLLERR,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  EPOLLPRI,
  EPOLLRDNORM,
  EPOLLWRNORM,
} from '../../vfs/file-description.ts'
import type { Inode } from '../../vfs/inode.ts'
import { ByteQueue } from './byte-queue.ts'
import { LineDiscipline, type LineOwner } from './line-discipline.ts'
import { type Hardware, TtyOutput } from './output.ts'
import { Termios } from './termios.ts'

export const TIOCPKT_FLUSHREAD = 1
export const TIOCPKT_FLUSHWRITE = 2
export const TIOCPKT_STOP = 4
export const TIOCPKT_START = 8
export const TIOCPKT_NOSTOP = 16
export const TIOCPKT_DOSTOP = 32
export const TIOCPKT_IOCTL = 64

/** struct winsize. */
export interface WindowSize {
  rows: number
  cols: number
  xpixel: number
  ypixel: number
}

/** What is open on the terminal and must hear of a hangup. */
export interface TtyUser {
  hungUp: boolean
}

/** What has not reached the line discipline yet (Linux: the flip buffer, tty_buffer_set_limit). */
const BACKLOG = 8192
const ALL = EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLWRNORM | EPOLLPRI | EPOLLHUP | EPOLLERR
const SI_KERNEL = 0x80

export abstract class Tty implements ControllingTty, LineOwner, Hardware {
  /** tty_nr, and st_rdev of its node. */
  readonly deviceNumber: number
  /** 'pts/3': what ps shows. */
  readonly name: string
  readonly termios: Termios = Termios.standard()
  /** Bits and characters that nobody may change (TIOCSLCKTRMIOS). */
  readonly lockedTermios: Termios = Termios.nothing()
  readonly window: WindowSize = { rows: 0, cols: 0, xpixel: 0, ypixel: 0 }
  readonly queue = new WaitQueue()
  readonly output: TtyOutput
  readonly line: LineDiscipline
  /** Its node in a devpts, if it has one. */
  node: Inode | null = null
  foreground: ProcessGroup | null = null
  /** Number of the foreground group, kept when the group is gone: its members were not replaced by us. */
  foregroundId = 0
  session: Session | null = null
  stopped = false
  stoppedByProgram = false
  exclusive = false
  /** Open descriptions of this side. */
  readonly users = new Set<TtyUser>()
  protected readonly backlog = new ByteQueue(BACKLOG)

  constructor(deviceNumber: number, name: string) {
    this.deviceNumber = deviceNumber
    this.name = name
    this.output = new TtyOutput(this.termios, this)
    this.line = new LineDiscipline(this)
  }

  // ---- hardware ----------------------------------------------------------------------------------------------------
  abstract writeRoom(): number
  abstract put(buf: Uint8Array, at: number, len: number): number
  abstract flushOutput(): void
  abstract discardOutput(): void
  /** Packet mode of a pty's master: status bits for it. */
  packetStatus(_set: number, _clear: number): void {}
  /** More input may be fetched: the backlog has room. */
  protected wantInput(): void {}
  /** The last description was closed, or a new one opened after that. */
  lastClosed(): void {}
  /** −EIO: may not be opened (locked, other side gone). */
  abstract mayOpen(): number
  /** The hardware is gone: writes fail. */
  abstract get gone(): boolean

  /** Bytes from the hardware; returns how many were taken. */
  receive(src: Uint8Array, at: number, len: number): number {
    let done = 0
    if (this.backlog.length === 0) done = this.line.receive(src, at, len)
    if (done < len) done += this.backlog.push(src, at + done, len - done)
    this.flushOutput()
    return done
  }
  get inputRoom(): number {
    return this.backlog.room
  }

  /** After a read or a flush: the line discipline has room again. */
  pump(): void {
    while (this.backlog.length > 0) {
      const run = this.backlog.front()
      const n = this.line.receive(run, 0, run.length)
      this.backlog.drop(n)
      if (n < run.length) break
    }
    this.flushOutput()
    if (this.backlog.room > 0) this.wantInput()
  }

  // ---- LineOwner ---------------------------------------------------------------------------------------------------
  signalForeground(sig: number): void {
    if (this.foreground !== null) sendKernelSignalToPgrp(this.foreground, sig)
  }
  stop(): void {
    if (this.stopped) return
    this.stopped = true
    this.packetStatus(TIOCPKT_STOP, TIOCPKT_START)
  }
  start(): void {
    if (!this.stopped || this.stoppedByProgram) return
    this.stopped = false
    this.packetStatus(TIOCPKT_START, TIOCPKT_STOP)
    this.outputRoom()
  }
  inputFlushed(): void {
    this.packetStatus(TIOCPKT_FLUSHREAD, 0)
  }
  inputReady(): void {
    this.queue.wake(EPOLLIN | EPOLLRDNORM)
  }

  /** The hardware takes output again. */
  outputRoom(): void {
    this.output.processEchoes()
    this.queue.wake(EPOLLOUT | EPOLLWRNORM)
    this.flushOutput()
  }

  // ---- settings ----------------------------------------------------------------------------------------------------
  setTermios(next: Termios): void {
    const old = new Termios()
    old.copyFrom(this.termios)
    this.termios.copyFrom(next)
    this.adjustTermios(old)
    this.line.termiosChanged(old)
    this.queue.wake(ALL)
    this.pump()
  }
  protected adjustTermios(_old: Termios): void {}

  /** A new window size: the foreground group hears of it. */
  resize(rows: number, cols: number, xpixel: number, ypixel: number): void {
    const w = this.window
    if (w.rows === rows && w.cols === cols && w.xpixel === xpixel && w.ypixel === ypixel) return
    w.rows = rows
    w.cols = cols
    w.xpixel = xpixel
    w.ypixel = ypixel
    this.signalForeground(SIGWINCH)
  }

  /** Drops what was typed but not looked at yet. */
  discardBacklog(): void {
    this.backlog.truncate(0)
  }
  flushInput(): void {
    this.backlog.truncate(0)
    this.line.flush()
    this.pump()
  }

  // ---- the session that it controls --------------------------------------------------------------------------------
  /** Becomes the controlling terminal of `session`; `pgrp` comes to the foreground. */
  control(session: Session, pgrp: ProcessGroup): void {
    if (this.session !== null) this.session.tty = null
    this.session = session
    session.tty = this
    this.setForeground(pgrp)
  }
  setForeground(pgrp: ProcessGroup): void {
    this.foreground = pgrp
    this.foregroundId = pgrp.pgid
  }
  private letGo(): void {
    if (this.session !== null) this.session.tty = null
    this.session = null
    this.foreground = null
    this.foregroundId = 0
  }

  /** The session leader died, or gave the terminal up (`alive`; Linux: disassociate_ctty). */
  disassociate(alive = false): void {
    const pgrp = this.foreground
    if (pgrp !== null) {
      sendKernelSignalToPgrp(pgrp, SIGHUP)
      if (alive) sendKernelSignalToPgrp(pgrp, SIGCONT)
    }
    this.letGo()
  }

  /** The line is cut: every description is dead, the session leader hears SIGHUP (Linux: __tty_hangup). */
  hangUp(): void {
    for (const user of this.users) user.hungUp = true
    this.users.clear()
    this.exclusive = false
    const session = this.session
    const leader = session?.leader ?? null
    // They hear of it when the leader dies.
    if (session !== null) session.hungUpForeground = this.foreground
    this.letGo()
    this.line.flush()
    this.backlog.truncate(0)
    this.stopped = this.stoppedByProgram = false
    this.queue.wake(ALL)
    // Last, since it may end processes on the spot, which close descriptions and leave sessions.
    if (leader !== null) {
      sendToGroup(leader, makeInfo(SIGHUP, SI_KERNEL), true)
      sendToGroup(leader, makeInfo(SIGCONT, SI_KERNEL), true)
    }
    this.lastClosed()
  }

  // ---- descriptions ------------------------------------------------------------------------------------------------
  attach(user: TtyUser): void {
    this.users.add(user)
  }
  detach(user: TtyUser): void {
    if (!this.users.delete(user) || this.users.size > 0) return
    this.exclusive = false
    this.lastClosed()
  }

  /** EPOLL* events of this side, hangups apart. */
  pollEvents(): number {
    let mask = 0
    const cc = this.termios.cc
    const needed = !this.line.isCanonical && cc[5] === 0 && cc[6]! > 0 ? cc[6]! : 1
    if (this.line.available >= needed) mask |= EPOLLIN | EPOLLRDNORM
    if (this.writeRoom() > 0) mask |= EPOLLOUT | EPOLLWRNORM
    return mask
  }
}
