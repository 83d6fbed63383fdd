/**
 * The ELF kernel inside a bzImage: QEMU starts it directly by its PVH note, which saves the guest's own unpacking (2.3 s of
 * xz under emulation). Formats: elf(5); Documentation/arch/x86/boot.rst, fields setup_sects, payload_offset, payload_length.
 */
import { spawnSync } from 'node:child_process'
import { gunzipSync, zstdDecompressSync } from 'node:zlib'

const ELF = Buffer.from('\x7fELF')
const MAX_KERNEL = 512 << 20

export function extractVmlinux(image: Buffer): Buffer {
  if (image.subarray(0, 4).equals(ELF)) return image
  if (image.length < 0x260 || image.toString('latin1', 0x202, 0x206) !== 'HdrS')
    throw new Error('neither an ELF kernel nor a bzImage')
  const setup = ((image[0x1f1] || 4) + 1) * 512
  const start = setup + image.readUInt32LE(0x248)
  const payload = image.subarray(start, start + image.readUInt32LE(0x24c))
  const kernel = unpack(payload)
  if (!kernel.subarray(0, 4).equals(ELF)) throw new Error('the bzImage holds no ELF kernel')
  return kernel
}

/** Offsets in Elf64_Ehdr and Elf64_Phdr. */
const E_PHOFF = 32
const E_SHOFF = 40
const E_PHNUM = 56
const E_SHNUM = 60
const E_SHSTRNDX = 62
const PHDR_SIZE = 56
const PT_LOAD = 1
const PAGE = 4096n

/**
 * The same kernel without the zeros at the end of its segments (.bss, .brk: 24 of 66 MB) and without what is not loaded:
 * QEMU would read all of that and write it into memory that is zero already, 0.1 s of each boot.
 */
export function withoutZeros(kernel: Buffer): Buffer {
  const out = Buffer.from(kernel)
  let end = 0
  for (let i = 0; i < kernel.readUInt16LE(E_PHNUM); i++) {
    const at = Number(kernel.readBigUInt64LE(E_PHOFF)) + i * PHDR_SIZE
    end = Math.max(end, at + PHDR_SIZE)
    if (kernel.readUInt32LE(at) !== PT_LOAD) continue
    const start = Number(kernel.readBigUInt64LE(at + 8))
    const size = kernel.readBigUInt64LE(at + 32)
    let used = Number(size)
    while (used > 0 && kernel[start + used - 1] === 0) used--
    const pages = ((BigInt(used) + PAGE - 1n) / PAGE) * PAGE
    const kept = pages < size ? pages : size
    out.writeBigUInt64LE(kept, at + 32)
    out.writeBigUInt64LE(kept, at + 40)
    end = Math.max(end, start + Number(kept))
  }
  out.writeBigUInt64LE(0n, E_SHOFF)
  out.writeUInt16LE(0, E_SHNUM)
  out.writeUInt16LE(0, E_SHSTRNDX)
  return out.subarray(0, end)
}

function unpack(payload: Buffer): Buffer {
  const magic = payload.readUInt32BE(0)
  if (payload.subarray(0, 4).equals(ELF)) return payload
  // Behind the compressed stream stands its unpacked size (4 bytes), which gunzip and zstd don't mind.
  if (magic >>> 16 === 0x1f8b) return gunzipSync(payload)
  if (magic === 0x28b52ffd) return zstdDecompressSync(payload.subarray(0, -4))
  if (magic === 0xfd377a58) return tool('xz', ['-dc', '--single-stream'], payload)
  if (magic === 0x02214c18) return tool('lz4', ['-dc'], payload.subarray(0, -4))
  throw new Error('the kernel is compressed in a way that is not known here')
}

function tool(name: string, args: string[], input: Buffer): Buffer {
  const { stdout, status, error } = spawnSync(name, args, {
    input,
    maxBuffer: MAX_KERNEL,
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  if (error) throw new Error(`${name} is needed to unpack the kernel: ${error.message}`)
  if (!stdout.length) throw new Error(`${name} cannot unpack the kernel (exit status ${status})`)
  return stdout
}
