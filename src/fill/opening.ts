/**
 * The first request of a flight. It is the primary's word that the blob belongs to the starter's repository, it tells
 * the size, and it already brings the first bytes: no round trip is spent on asking alone.
 */
import type { Digest } from '../oci/digest.ts'
import { UpstreamError } from '../upstream/errors.ts'
import type { ArrivingBlob, Upstream } from '../upstream/upstream.ts'
import type { Caller } from './callers.ts'
import type { FillState } from './fill-state.ts'
import { lowestGap } from './plan.ts'
import { WrongContentError } from './retry.ts'
import type { Spool } from './spool.ts'
import type { Spools } from './spools.ts'

export interface Opening {
  readonly spool: Spool
  /** Brings the lowest gap of the spool. Undefined when it has none. */
  readonly opened: ArrivingBlob | undefined
}

export interface OpeningAsk {
  readonly digest: Digest
  /** Whether an interrupted flight may have left a spool of it. */
  readonly isKept: boolean
  /** What a process that was lost had told of its spool. */
  readonly left?: FillState | undefined
  readonly caller: Caller
  /** How much the request may ask for. */
  readonly limitBytes: number
  readonly signal: AbortSignal
}

interface OpeningDependencies {
  readonly upstream: Upstream
  readonly spools: Spools
}

/**
 * One attempt: the client is told at once what is wrong, and tries again itself. Whoever gets the result owns spool and
 * body. Throws `UpstreamError`; `StoreError` when no spool can be made.
 */
export async function openSpool(dependencies: OpeningDependencies, ask: OpeningAsk): Promise<Opening> {
  const kept = ask.isKept ? await dependencies.spools.resume(ask.digest, ask.left) : undefined
  if (!kept) return beginSpool(dependencies, ask)
  try {
    return await resumeSpool(dependencies.upstream, ask, kept)
  } catch (error) {
    // What was kept cannot be this blob, whatever it is: the next pull starts afresh.
    if (error instanceof WrongContentError) await kept.discard()
    else await kept.putBack().catch(() => undefined) // It lies there still, if not as well.
    kept.release()
    throw error
  }
}

async function beginSpool({ upstream, spools }: OpeningDependencies, ask: OpeningAsk): Promise<Opening> {
  // Made while the primary is asked: a busy disk would otherwise add to the time of the first byte.
  const making = spools.create(ask.digest)
  making.catch(() => undefined) // Awaited below, after the answer.
  let opened: ArrivingBlob
  try {
    opened = await firstBody(upstream, ask, 0, ask.limitBytes)
  } catch (error) {
    const unused = (await making)(0)
    await unused.discard()
    unused.release()
    throw error
  }
  try {
    const spool = (await making)(opened.sizeBytes)
    if (spool.sizeBytes > 0) return { spool, opened }
    destroy(opened)
    return { spool, opened: undefined }
  } catch (error) {
    destroy(opened)
    throw error
  }
}

async function resumeSpool(upstream: Upstream, ask: OpeningAsk, kept: Spool): Promise<Opening> {
  const { digest, caller, limitBytes, signal } = ask
  const gap = lowestGap(kept.held, kept.sizeBytes, limitBytes)
  if (!gap) {
    const { name, credential, requestId } = caller
    refuseOtherSize(kept, await upstream.confirmBlob(name, digest, { credential, requestId, signal }))
    return { spool: kept, opened: undefined }
  }
  const opened = await firstBody(upstream, ask, ...gap)
  try {
    refuseOtherSize(kept, opened.sizeBytes)
    return { spool: kept, opened }
  } catch (error) {
    destroy(opened)
    throw error
  }
}

/** `endByte` is one past the last byte wanted, `Infinity` for the rest. */
async function firstBody(
  upstream: Upstream,
  { digest, caller, signal }: OpeningAsk,
  startByte: number,
  endByte: number,
): Promise<ArrivingBlob> {
  const { name, credential, requestId } = caller
  const range = Number.isFinite(endByte) ? { startByte, endByte: endByte - 1 } : { startByte }
  try {
    return await upstream.getBlob(name, digest, { credential, requestId, ...range, signal })
  } catch (error) {
    const isShorter = startByte > 0 && error instanceof UpstreamError && error.status === 416
    throw isShorter ? new WrongContentError(`blob ${digest}: it ends before byte ${startByte}`) : error
  }
}

function refuseOtherSize({ digest, sizeBytes }: Spool, toldBytes: number): void {
  if (toldBytes === sizeBytes) return
  throw new WrongContentError(`blob ${digest}: ${sizeBytes} bytes before, ${toldBytes} now`)
}

function destroy({ body }: ArrivingBlob): void {
  body.on('error', () => undefined) // Nobody waits for it any more.
  body.destroy()
}
