/**
 * A body on its way to a reader, checked as it passes: counted, hashed, limited. Its last bytes are held back until the
 * digest is known to be right, and a body that is wrong, short or long errors instead of ending (law 1).
 */
import { Transform } from 'node:stream'
import { algorithmOf, createDigester, type Digest } from '../oci/digest.ts'
import { StoreError } from './blob-store.ts'

export const HOLD_BACK_BYTES: number = 64 * 1024

export interface VerifyStreamOptions {
  /** How much of the end waits for the verdict; default 64 KiB, all of a smaller body. */
  readonly holdBackBytes?: number
}

/** Errors with `StoreError` of kind `mismatch`. Holds at most `holdBackBytes` of its own. */
export function createVerifyStream(
  digest: Digest,
  sizeBytes: number,
  options: VerifyStreamOptions = {},
): Transform {
  const held = Buffer.allocUnsafeSlow(Math.min(options.holdBackBytes ?? HOLD_BACK_BYTES, sizeBytes))
  const heldFrom = sizeBytes - held.length
  const digester = createDigester(algorithmOf(digest))
  let receivedBytes = 0
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      const position = receivedBytes
      receivedBytes += chunk.length
      if (receivedBytes > sizeBytes) return done(mismatch(`more than ${sizeBytes} bytes came`))
      digester.update(chunk)
      const free = Math.min(Math.max(heldFrom - position, 0), chunk.length)
      if (free < chunk.length) chunk.copy(held, position + free - heldFrom, free)
      if (free > 0) this.push(chunk.subarray(0, free))
      return done()
    },
    flush(done) {
      if (receivedBytes < sizeBytes) {
        return done(mismatch(`only ${receivedBytes} of ${sizeBytes} bytes came`))
      }
      const actual = digester.digest()
      if (actual !== digest) return done(mismatch(`the bytes are ${actual}`))
      return done(null, held)
    },
  })

  function mismatch(what: string): StoreError {
    return new StoreError('mismatch', `blob ${digest}: ${what}`)
  }
}
