/**
 * Brings one claim: asks for it, writes what arrives where it belongs, and asks again for the rest, through the
 * registry, when a body was cut. Never for a byte that is here, and never with an old presigned URL.
 */
import { UpstreamError } from '../upstream/errors.ts'
import type { ArrivingBlob } from '../upstream/upstream.ts'
import { createBatchWriter } from './batch-writer.ts'
import type { Claim } from './plan.ts'
import { createRetry } from './retry.ts'
import type { Segments } from './segments.ts'

export interface FetchTarget {
  /** Ends the fetch: bodies are destroyed, waits given up. */
  readonly signal: AbortSignal
  /** How much is gathered for one write; changes. */
  readonly batchBytes: number
  /**
   * Sends one request. `endByte` is one past the last byte wanted. Undefined: there is nobody left to ask as. Throws
   * `UpstreamError`.
   */
  ask(startByte: number, endByte: number): Promise<ArrivingBlob | undefined>
  /** Looks at an answer before its body is read. Throws `UpstreamError` when it cannot be what was asked. */
  admit(claim: Claim, arriving: ArrivingBlob): void
  /** Writes bytes of the claim and takes them from `claim.wanted`. Throws `StoreError`. */
  write(claim: Claim, position: number, chunks: readonly Buffer[]): Promise<void>
}

/** A body that goes on for longer than this behind what is wanted of it is not worth waiting for its end. */
const WORTH_FINISHING_BYTES = 64 * 1024

/**
 * Resolves when the claim is here, or nobody is left to ask as. `opened` is a body that already brings its beginning.
 * Throws `UpstreamError` when given up, and `StoreError`.
 */
export async function fetchClaim(target: FetchTarget, claim: Claim, opened?: ArrivingBlob): Promise<void> {
  const retry = createRetry(target.signal)
  let arriving = opened
  while (!claim.wanted.isEmpty) {
    const before = claim.wanted.bytes
    try {
      const [start, end] = claim.wanted.list()[0] ?? [0, 0]
      arriving ??= await target.ask(start, end)
      if (!arriving) return
      await drain(target, claim, arriving)
      if (!claim.wanted.isEmpty) throw new UpstreamError('unavailable', 'the body ended early')
    } catch (error) {
      if (claim.wanted.isEmpty) return // Cut behind the last byte that was wanted.
      await retry.after(error, before - claim.wanted.bytes)
    }
    arriving = undefined
  }
}

async function drain(target: FetchTarget, claim: Claim, arriving: ArrivingBlob): Promise<void> {
  const { body } = arriving
  const writer = createBatchWriter(
    (start, chunks) => target.write(claim, start, chunks),
    () => target.batchBytes,
  )
  const stop = () => body.destroy()
  body.on('error', () => undefined) // Comes out of the iteration; destroyed outside of it, it must not end the process.
  target.signal.addEventListener('abort', stop)
  let position = arriving.offset
  try {
    target.signal.throwIfAborted()
    target.admit(claim, arriving)
    for await (const chunk of body as AsyncIterable<Buffer>) {
      for (const [start, end] of wantedOf(claim.wanted, position, position + chunk.length)) {
        await writer.push(start, chunk.subarray(start - position, end - position))
      }
      position += chunk.length
      const isUseless = !claim.wanted.has(position) && claim.wanted.gapEnd(position) >= arriving.endOffset
      if (isUseless && arriving.endOffset - position > WORTH_FINISHING_BYTES) break
    }
  } finally {
    target.signal.removeEventListener('abort', stop)
    body.destroy()
    // What did arrive counts, whatever became of the rest; a disk that fails outweighs a body that was cut.
    await writer.flush()
  }
}

/** The parts of `startByte` to `endByte` that are wanted. A body from a primary that ignores ranges brings others. */
function wantedOf(wanted: Segments, startByte: number, endByte: number): [number, number][] {
  const parts: [number, number][] = []
  let start = startByte
  while (start < endByte) {
    const end = Math.min(wanted.has(start) ? wanted.runEnd(start) : wanted.gapEnd(start), endByte)
    if (wanted.has(start)) parts.push([start, end])
    start = end
  }
  return parts
}
