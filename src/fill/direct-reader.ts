/**
 * Reads a blob from the primary for one client and keeps nothing: for when the disk takes no more. A blob read from
 * its beginning is hashed as it passes, and its last 64 KiB are held back until the digest is right (law 1); any other
 * read is a range of its own, which the client checks.
 */
import { algorithmOf, createDigester, type Digest } from '../oci/digest.ts'
import { HOLD_BACK_BYTES } from '../store/verify-stream.ts'
import { UpstreamError } from '../upstream/errors.ts'
import type { ArrivingBlob, Upstream } from '../upstream/upstream.ts'
import { FLIGHT_BUFFER_BYTES } from './batch-writer.ts'
import type { Caller } from './callers.ts'
import type { Follower } from './fill.ts'
import { createRetry, WrongContentError } from './retry.ts'
import { abortable } from './share.ts'
import type { ReadableSpool } from './spool.ts'

/** One step of hashing what a lost spool holds. */
const STEP_BYTES = 256 * 1024

export interface DirectSource {
  readonly upstream: Upstream
  readonly digest: Digest
  readonly caller: Caller
  readonly sizeBytes: number
  /** One past the last byte that will be read; `Infinity` for the rest. */
  readonly endByte: number
  /** A body that begins at byte 0, to be used first. */
  readonly opened?: ArrivingBlob | undefined
  /** Where the client read from until now, to hash what it has been given. */
  readonly spool?: ReadableSpool | undefined
}

export interface DirectReader {
  /** As `Follower.read`. One read at a time; a read that is aborted closes the reader. */
  read(buffer: Buffer, length: number, position: number, signal: AbortSignal): Promise<number>
  close(): void
}

interface Body {
  readonly stop: () => void
  readonly chunks: AsyncIterator<Buffer>
  /** The position the next chunk begins at. */
  position: number
}

export function createDirectReader(source: DirectSource): DirectReader {
  const { digest, sizeBytes } = source
  const heldFrom = Math.max(0, sizeBytes - HOLD_BACK_BYTES)
  const closing = new AbortController()
  const retry = createRetry(closing.signal)
  const digester = createDigester(algorithmOf(digest))
  let hashedTo = 0
  let rest: Buffer = Buffer.alloc(0)
  /** The position of the first byte of `rest`. */
  let at = 0
  let arriving = source.opened && begin(source.opened)
  /** Where the last body was cut. */
  let cutAt = 0
  /** The end of the blob from `heldFrom` on, once it is known to be right. */
  let tail: Buffer | undefined
  let wrong: WrongContentError | undefined

  function begin(answer: ArrivingBlob): Body {
    const { body, offset } = answer
    body.on('error', () => undefined) // Comes out of the iteration too.
    if (answer.sizeBytes !== sizeBytes || offset > at) {
      body.destroy()
      throw new WrongContentError(`blob ${digest}: not the range asked for, or of another size than before`)
    }
    const chunks = (body as AsyncIterable<Buffer>)[Symbol.asyncIterator]()
    return { stop: () => void body.destroy(), chunks, position: offset }
  }

  function close(): void {
    closing.abort()
    arriving?.stop()
  }

  /** Makes `rest` hold at least one byte from `at` on, asking again for what a cut body still owed. */
  async function more(): Promise<void> {
    while (rest.length === 0) {
      try {
        arriving ??= begin(await request())
        const { done, value } = await arriving.chunks.next()
        if (done) throw new UpstreamError('unavailable', 'the body ended early')
        const skipped = Math.min(Math.max(at - arriving.position, 0), value.length)
        arriving.position += value.length
        rest = value.subarray(skipped)
      } catch (error) {
        arriving?.stop()
        arriving = undefined
        await retry.after(error, at - cutAt)
        cutAt = at
      }
    }
  }

  function request(): Promise<ArrivingBlob> {
    const { upstream, caller } = source
    const { name, credential, requestId } = caller
    const endByte = Math.min(source.endByte, sizeBytes) - 1
    const range = endByte >= at ? { startByte: at, endByte } : { startByte: at }
    return upstream.getBlob(name, digest, { credential, requestId, ...range, signal: closing.signal })
  }

  function take(target: Buffer, offset: number, length: number): number {
    const part = rest.subarray(0, length)
    part.copy(target, offset)
    if (hashedTo === at) {
      digester.update(part)
      hashedTo += part.length
    }
    rest = rest.subarray(part.length)
    at += part.length
    return part.length
  }

  async function seek(position: number): Promise<void> {
    arriving?.stop()
    arriving = undefined
    rest = Buffer.alloc(0)
    at = position
    cutAt = position
    const { spool } = source
    // What is held back is read whole, also for a client who has had a part of it.
    const hashEnd = Math.min(position, heldFrom)
    if (!spool || hashedTo > hashEnd) return
    const spoolEnd = Math.min(spool.held.runEnd(hashedTo), hashEnd)
    // A client that keeps up has read what is not on the disk yet, or never came there: that much is fetched again.
    if (hashEnd - spoolEnd > FLIGHT_BUFFER_BYTES) return
    const buffer = Buffer.allocUnsafeSlow(STEP_BYTES)
    while (hashedTo < spoolEnd) {
      const bytesRead = await spool.read(buffer, Math.min(STEP_BYTES, spoolEnd - hashedTo), hashedTo)
      digester.update(buffer.subarray(0, bytesRead))
      hashedTo += bytesRead
    }
    at = spoolEnd
    cutAt = spoolEnd
    while (at < hashEnd) {
      await more()
      take(buffer, 0, Math.min(STEP_BYTES, hashEnd - at))
    }
  }

  async function readTail(): Promise<Buffer> {
    const bytes = Buffer.allocUnsafeSlow(sizeBytes - heldFrom)
    for (let filled = 0; filled < bytes.length; ) {
      await more()
      filled += take(bytes, filled, bytes.length - filled)
    }
    const actual = digester.digest()
    if (actual === digest) return bytes
    wrong = new WrongContentError(`blob ${digest}: its bytes are ${actual}`)
    throw wrong
  }

  async function read(buffer: Buffer, length: number, position: number): Promise<number> {
    if (wrong) throw wrong
    if (position >= sizeBytes || length === 0) return 0
    if (tail && position >= heldFrom) {
      return tail.copy(buffer, 0, position - heldFrom, position - heldFrom + length)
    }
    if (position !== at) await seek(position)
    const isChecked = hashedTo === at
    if (isChecked && at >= heldFrom) {
      tail = await readTail()
      return tail.copy(buffer, 0, position - heldFrom, position - heldFrom + length)
    }
    await more()
    return take(buffer, 0, isChecked ? Math.min(length, heldFrom - at) : length)
  }

  return {
    close,
    async read(buffer, length, position, signal) {
      signal.throwIfAborted()
      signal.addEventListener('abort', close)
      try {
        return await abortable(read(buffer, length, position), signal)
      } finally {
        signal.removeEventListener('abort', close)
      }
    },
  }
}

/**
 * A follower of no flight: for a whole blob while there is no room. Its first request is the primary's word for this
 * caller. Throws `UpstreamError`, or the `signal`'s reason.
 */
export async function openDirect(
  upstream: Upstream,
  digest: Digest,
  caller: Caller,
  signal: AbortSignal | undefined,
): Promise<Follower> {
  const { name, credential, requestId } = caller
  const opened = await upstream.getBlob(name, digest, { credential, requestId, signal })
  const { sizeBytes } = opened
  const endByte = Number.POSITIVE_INFINITY
  return { sizeBytes, ...createDirectReader({ upstream, digest, caller, sizeBytes, endByte, opened }) }
}
