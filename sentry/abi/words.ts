/**
 * 64-bit words of structs as doubles, little-endian. Exact below 2^53, which every size, time and address of a guest is.
 */
const TWO32 = 0x1_0000_0000

/** An unsigned word. */
export function getU64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * TWO32
}
/** A signed one. */
export function getS64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getInt32(at + 4, true) * TWO32
}
/** Either: negative numbers are sign-extended. */
export function put64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true)
  view.setUint32(at + 4, Math.floor(value / TWO32) >>> 0, true)
}
