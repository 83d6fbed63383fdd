/**
 * Signal-driven I/O: who hears of events on a description, and by which signal (Linux: struct fown_struct and
 * fasync_struct in fs/fcntl.c; fcntl(2), "Managing signals").
 */
import { O_ASYNC } from '../abi/fcntl.ts'
import { SIGIO } from '../abi/signal.ts'
import type { Credentials } from '../kernel/credentials.ts'
import type { Kernel } from '../kernel/kernel.ts'
import { makeInfo } from '../kernel/siginfo.ts'
import { sendToGroup, sendToTask } from '../kernel/signal.ts'
import type { Task } from '../kernel/task.ts'
import { Waiter, type Wakeable } from '../kernel/wait-queue.ts'
import {
  EPOLLERR,
  EPOLLHUP,
  EPOLLIN,
  EPOLLMSG,
  EPOLLOUT,
  EPOLLPRI,
  EPOLLRDBAND,
  EPOLLRDNORM,
  EPOLLWRBAND,
  EPOLLWRNORM,
  type FileDescription,
} from './file-description.ts'

export const F_OWNER_TID = 0
export const F_OWNER_PID = 1
export const F_OWNER_PGRP = 2
const SI_KERNEL = 0x80
/** si_code and si_band of POLL_IN, POLL_OUT, POLL_MSG, POLL_ERR, POLL_PRI, POLL_HUP. */
const POLL_IN = 1
const POLL_OUT = 2
const POLL_HUP = 6
const BANDS = [
  0,
  EPOLLIN | EPOLLRDNORM,
  EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND,
  EPOLLIN | EPOLLRDNORM | EPOLLMSG,
  EPOLLERR,
  EPOLLPRI | EPOLLRDBAND,
  EPOLLHUP | EPOLLERR,
]

export class FileOwner implements Wakeable {
  /** F_OWNER_TID, F_OWNER_PID or F_OWNER_PGRP. */
  type = F_OWNER_PID
  /** 0 = nobody. */
  id = 0
  /** F_SETSIG; 0 = SIGIO without details. */
  signal = 0
  /** Of whoever set the owner: he must be allowed to signal it. */
  creds: Credentials | null = null
  private readonly file: FileDescription
  private readonly waiter = new Waiter(this)
  private kernel: Kernel | null = null
  /** The descriptor that O_ASYNC was set through, for si_fd. */
  private fd = -1

  constructor(file: FileDescription) {
    this.file = file
  }

  /** Sets or clears O_ASYNC. Files that never change (regular ones) do not have it. */
  setAsync(kernel: Kernel, fd: number, on: boolean): void {
    const queue = this.file.waitQueue
    if (queue === null) return
    this.waiter.remove()
    this.file.flags = on ? this.file.flags | O_ASYNC : this.file.flags & ~O_ASYNC
    if (!on) return
    this.kernel = kernel
    this.fd = fd
    const readable = this.file.readable ? EPOLLIN | EPOLLPRI : 0
    queue.add(this.waiter, readable | (this.file.writable ? EPOLLOUT : 0))
  }
  /** Whoever else watches through this description (dnotify). */
  onRelease: (() => void) | null = null
  fileReleased(): void {
    this.waiter.remove()
    if (this.onRelease !== null) this.onRelease()
  }

  notify(_waiter: Waiter, events: number): void {
    const reason = events & EPOLLIN ? POLL_IN : events & EPOLLOUT ? POLL_OUT : events & EPOLLPRI ? 5 : POLL_HUP
    if (this.kernel !== null) this.signalOwner(this.kernel, this.fd, reason)
  }

  /** Signals the owner that POLL_* `reason` holds for `fd`. */
  signalOwner(kernel: Kernel, fd: number, reason: number): void {
    if (this.id === 0) return
    const ids = kernel.ids
    if (this.type === F_OWNER_PGRP) {
      const pgrp = ids.pgrp(this.id)
      if (pgrp === undefined) return
      for (const group of pgrp.members.slice()) this.send(group.leader, fd, reason, true)
      return
    }
    const task = ids.task(this.id)
    if (task !== undefined) this.send(task, fd, reason, this.type === F_OWNER_PID)
  }

  private send(t: Task, fd: number, reason: number, toProcess: boolean): void {
    const from = this.creds
    const to = t.creds
    if (from !== null && from.euid !== 0) {
      const ok = from.euid === to.suid || from.euid === to.uid || from.uid === to.suid || from.uid === to.uid
      if (!ok) return
    }
    const info = makeInfo(this.signal === 0 ? SIGIO : this.signal, this.signal === 0 ? SI_KERNEL : reason)
    if (this.signal !== 0) {
      info.status = BANDS[reason]!
      info.id = fd
    }
    const queued = toProcess ? sendToGroup(t.group, info, true) : sendToTask(t, info, true)
    // The queue is full: the plain signal says at least that something was lost.
    if (queued < 0) sendToGroup(t.group, makeInfo(SIGIO, SI_KERNEL), true)
  }
}

export function ownerOf(file: FileDescription): FileOwner {
  if (file.owner === null) file.owner = new FileOwner(file)
  return file.owner as FileOwner
}
