/** A cpio archive in the `newc` format, which the kernel unpacks as initramfs (Documentation/driver-api/early-userspace). */

export interface CpioEntry {
  name: string
  /** st_mode: type and permissions. */
  mode: number
  data?: Buffer
}

const TRAILER = 'TRAILER!!!'

/** Everything belongs to root, times are 0: the same entries give the same bytes. */
export function cpio(entries: readonly CpioEntry[]): Buffer {
  const parts: Buffer[] = []
  const pad = (length: number) => parts.push(Buffer.alloc((4 - (length % 4)) % 4))
  ;[...entries, { name: TRAILER, mode: 0 }].forEach((entry: CpioEntry, i) => {
    const data = entry.data ?? Buffer.alloc(0)
    const name = Buffer.from(`${entry.name}\0`)
    const fields = [i + 1, entry.mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, name.length, 0]
    const header = Buffer.from(`070701${fields.map((n) => n.toString(16).padStart(8, '0')).join('')}`)
    parts.push(header, name)
    pad(header.length + name.length)
    parts.push(data)
    pad(data.length)
  })
  return Buffer.concat(parts)
}
