/**
 * The ELF kernel inside a bzImage: QEMU starts it directly by its PVH note, which saves the guest's own unpacking (2.3 s of
 * xz under emulation). Format: Documentation/arch/x86/boot.rst, fields setup_sects, payload_offset, payload_length.
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
