/**
 * The first request of a flight. It is the primary's word that the blob belongs to the starter's repository, it tells
 * the size, and it already brings the first bytes: no round trip is spent on asking alone.
 */
import type { Digest } from '../oci/digest.ts'
import { UpstreamError } from '../upstream/errors.ts'
import type { ArrivingBlob, Upstream } from '../upstream/upstream.ts'
import type { Caller } from './callers.ts'
import { lowestGap } from './plan.ts'
import { WrongContentError } from './retry.ts'
import { type Segment, Segments } from './segments.ts'
import type { Spool } from './spool.ts'
import type { Spools } from './spools.ts'

export interface Opening {
  readonly spool: Spool
  /** Undefined when the spool needs no more bytes, only their verdict. */
  readonly opened: ArrivingBlob | undefined
}

/**
 * One attempt: the client is told at once what is wrong, and tries again itself. Whoever gets the result owns spool and
 * body. Throws `UpstreamError`; `StoreError` when no spool can be made.
 */
export async function openSpool(
  { upstream, spools }: { readonly upstream: Upstream; readonly spools: Spools },
  digest: Digest,
  caller: Caller,
  limitBytes: number,
  signal: AbortSignal,
): Promise<Opening> {
  const kept = await spools.resume(digest)
  try {
    const gap = lowestGap(
      kept?.held ?? new Segments(),
      kept?.sizeBytes ?? Number.POSITIVE_INFINITY,
      limitBytes,
    )
    if (kept && !gap) {
      const sizeBytes = await upstream.confirmBlob(caller.name, digest, { ...caller, signal })
      if (sizeBytes === kept.sizeBytes) return { spool: kept, opened: undefined }
      throw otherSize(kept, sizeBytes)
    }
    const opened = await firstBody(upstream, digest, caller, gap ?? [0, Number.POSITIVE_INFINITY], signal)
    if (kept && opened.sizeBytes !== kept.sizeBytes) {
      destroy(opened)
      throw otherSize(kept, opened.sizeBytes)
    }
    return await withSpool(spools, digest, kept, opened)
  } catch (error) {
    if (kept && error instanceof WrongContentError) await kept.discard()
    kept?.release()
    throw error
  }
}

/** `endByte` is one past the last byte wanted, `Infinity` for the rest. */
async function firstBody(
  upstream: Upstream,
  digest: Digest,
  { name, credential, requestId }: Caller,
  [startByte, endByte]: Segment,
  signal: AbortSignal,
): Promise<ArrivingBlob> {
  const range = Number.isFinite(endByte) ? { startByte, endByte: endByte - 1 } : { startByte }
  try {
    return await upstream.getBlob(name, digest, { credential, requestId, ...range, signal })
  } catch (error) {
    // What was kept says that the blob goes on there.
    const isShorter = startByte > 0 && error instanceof UpstreamError && error.status === 416
    throw isShorter ? new WrongContentError(`blob ${digest}: shorter than before`) : error
  }
}

async function withSpool(
  spools: Spools,
  digest: Digest,
  kept: Spool | undefined,
  opened: ArrivingBlob,
): Promise<Opening> {
  // Nothing will read it, and nothing may be left to fail unheard.
  if (opened.sizeBytes === 0) destroy(opened)
  try {
    const spool = kept ?? (await spools.create(digest, opened.sizeBytes))
    return { spool, opened: opened.sizeBytes === 0 ? undefined : opened }
  } catch (error) {
    destroy(opened)
    throw error
  }
}

function destroy({ body }: ArrivingBlob): void {
  body.on('error', () => undefined) // Nobody waits for it any more.
  body.destroy()
}

function otherSize(kept: Spool, sizeBytes: number): WrongContentError {
  return new WrongContentError(`blob ${kept.digest}: ${kept.sizeBytes} bytes before, ${sizeBytes} now`)
}
