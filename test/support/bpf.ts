/** seccomp filters, run as the kernel would run them. */
export interface Call {
  nr: number
  arch?: number
  ip?: bigint
  args?: bigint[]
}

export const X86_64 = 0xc000003e

/** Classic BPF over struct seccomp_data, only what the kernel's seccomp_check_filter accepts. */
export function interpret(program: Uint8Array, call: Call): number {
  const data = new DataView(new ArrayBuffer(64))
  data.setUint32(0, call.nr, true)
  data.setUint32(4, call.arch ?? X86_64, true)
  data.setBigUint64(8, call.ip ?? 0n, true)
  for (let i = 0; i < 6; i++) data.setBigUint64(16 + 8 * i, BigInt.asUintN(64, call.args?.[i] ?? 0n), true)
  const code = new DataView(program.buffer, program.byteOffset, program.byteLength)
  const length = program.byteLength / 8
  let a = 0
  for (let pc = 0; pc < length; pc++) {
    const op = code.getUint16(pc * 8, true)
    const jt = code.getUint8(pc * 8 + 2)
    const jf = code.getUint8(pc * 8 + 3)
    const k = code.getUint32(pc * 8 + 4, true)
    if (op === 0x20 && k % 4 === 0) a = data.getUint32(k, true)
    else if (op === 0x54) a = (a & k) >>> 0
    else if (op === 0x05) pc += k
    else if (op === 0x15) pc += a === k ? jt : jf
    else if (op === 0x25) pc += a > k ? jt : jf
    else if (op === 0x35) pc += a >= k ? jt : jf
    else if (op === 0x06) return k
    else throw new Error(`instruction ${op.toString(16)} at ${pc}`)
  }
  throw new Error('ran off the end')
}
