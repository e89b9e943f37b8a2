/**
 * The digest of a sparse spool, kept up as it fills: bytes that arrive where the hash stands are hashed from memory,
 * others are read back from the file once everything before them is here.
 */
import { algorithmOf, createDigester, type Digest } from '../oci/digest.ts'
import type { Spool } from './spool.ts'

/** One step of reading back: about a quarter of a millisecond of hashing between two turns of the event loop. */
const STEP_BYTES = 256 * 1024

export interface PrefixDigest {
  /** Chunks that were just written at `position`. */
  offer(position: number, chunks: readonly Buffer[]): void
  /** Resolves with the digest when the whole blob has been hashed. Throws `StoreError`. */
  readonly whole: Promise<Digest>
  /** Ends a read-back under way; resolves when the spool is not read any more. */
  stop(): Promise<void>
}

/** Begins by hashing what the spool already holds. */
export function createPrefixDigest(spool: Spool): PrefixDigest {
  const digester = createDigester(algorithmOf(spool.digest))
  const { promise: whole, resolve, reject } = Promise.withResolvers<Digest>()
  // A flight that ended before its blob was whole asks for no verdict; it has its own failure to report.
  whole.catch(() => undefined)
  let hashedTo = 0
  let stopped = false
  let readingBack: Promise<void> | undefined

  async function readBack(): Promise<void> {
    const buffer = Buffer.allocUnsafeSlow(STEP_BYTES)
    while (!stopped) {
      const length = Math.min(STEP_BYTES, spool.held.runEnd(hashedTo) - hashedTo)
      if (length === 0) break
      const bytesRead = await spool.read(buffer, length, hashedTo)
      digester.update(buffer.subarray(0, bytesRead))
      hashedTo += bytesRead
    }
  }

  function proceed(): void {
    if (stopped || readingBack !== undefined) return
    if (hashedTo === spool.sizeBytes) {
      stopped = true
      resolve(digester.digest())
    } else if (spool.held.has(hashedTo)) {
      readingBack = readBack().then(
        () => {
          readingBack = undefined
          proceed()
        },
        (error: unknown) => {
          stopped = true
          reject(error)
        },
      )
    }
  }

  proceed()
  return {
    whole,
    offer(position, chunks) {
      if (position === hashedTo && readingBack === undefined && !stopped) {
        for (const chunk of chunks) {
          digester.update(chunk)
          hashedTo += chunk.length
        }
      }
      proceed()
    },
    async stop() {
      stopped = true
      await readingBack
    },
  }
}
