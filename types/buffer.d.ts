/** Buffer methods that Node has and @types/node does not declare: the fastest way between bytes and latin1 strings. */
interface Buffer {
  latin1Slice(start?: number, end?: number): string
  latin1Write(text: string, offset?: number, length?: number): number
}

declare namespace NodeJS {
  interface Process {
    /** exit without the 'exit' handlers: the guest's files are flushed by their owners. */
    reallyExit(code: number): never
  }
}
