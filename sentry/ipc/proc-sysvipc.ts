/**
 * The tables of /proc/sysvipc (Linux: sysvipc_*_proc_show), registered when this module is loaded.
 */
import { registerSysvTable } from '../fs/proc/system-files.ts'
import type { IpcObject } from './ipc-ids.ts'
import { MSG } from './msg.ts'
import { SEM } from './sem.ts'
import { SHM } from './shm.ts'

const right = (v: number, width: number): string => String(v).padStart(width)
const head = (o: IpcObject): string => `${right(o.key, 10)} ${right(o.id, 10)}  ${o.mode.toString(8).padStart(4)}`
const owners = (o: IpcObject): string => `${right(o.uid, 5)} ${right(o.gid, 5)} ${right(o.cuid, 5)} ${right(o.cgid, 5)}`

registerSysvTable('shm', () => {
  let out = `${'       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime'} ${'rss'.padStart(21)} ${'swap'.padStart(21)}\n`
  for (const s of SHM.all()) {
    out += `${head(s)} ${right(s.size, 21)} ${right(s.cpid, 5)} ${right(s.lpid, 5)}  ${right(s.attached, 5)} ${owners(
      s,
    )} ${right(s.atime, 10)} ${right(s.dtime, 10)} ${right(s.ctime, 10)} ${right(s.pages * 4096, 21)} ${right(0, 21)}\n`
  }
  return out
})

registerSysvTable('sem', () => {
  let out = '       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n'
  for (const s of SEM.all()) {
    out += `${head(s)} ${right(s.values.length, 10)} ${owners(s)} ${right(s.otime, 10)} ${right(s.ctime, 10)}\n`
  }
  return out
})

registerSysvTable('msg', () => {
  let out =
    '       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n'
  for (const q of MSG.all()) {
    out += `${head(q)}  ${right(q.bytes, 10)} ${right(q.messages.length, 10)} ${right(q.lspid, 5)} ${right(
      q.lrpid,
      5,
    )} ${owners(q)} ${right(q.stime, 10)} ${right(q.rtime, 10)} ${right(q.ctime, 10)}\n`
  }
  return out
})
