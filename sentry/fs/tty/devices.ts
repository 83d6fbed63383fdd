/**
 * Device numbers of terminals: /dev/tty, /dev/console, /dev/ptmx (Linux: drivers/tty/tty_io.c, tty_open).
 */
import { EIO, ENXIO } from '../../abi/errno.ts'
import { O_NOCTTY } from '../../abi/fcntl.ts'
import type { Task } from '../../kernel/task.ts'
import type { FileDescription } from '../../vfs/file-description.ts'
import type { Inode } from '../../vfs/inode.ts'
import type { Path } from '../../vfs/path.ts'
import { registerCharDevice, registerCharMajor } from '../dev/char-device.ts'
import { systemConsole } from './console.ts'
import { openPtmxNode, openTty } from './devpts.ts'
import { PTS_MAJOR } from './pty.ts'
import { Tty } from './tty.ts'

/** The terminal that controls the caller's session, whatever its name. */
function openOwnTty(t: Task, node: Inode, path: Path, flags: number): FileDescription | number {
  const tty = t.group.pgrp.session.tty
  return tty instanceof Tty ? openTty(t, tty, node, path, flags | O_NOCTTY) : -ENXIO
}

function openConsoleNode(t: Task, node: Inode, path: Path, flags: number): FileDescription | number {
  const tty = systemConsole()
  return tty === null ? -ENXIO : openTty(t, tty, node, path, flags | O_NOCTTY)
}

registerCharDevice(5, 0, openOwnTty)
registerCharDevice(5, 1, openConsoleNode)
registerCharDevice(5, 2, openPtmxNode)
// Slaves exist in devpts only; a node made by mknod is none of them.
registerCharMajor(PTS_MAJOR, () => -EIO)
